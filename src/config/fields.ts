import { z } from 'zod';
import { parsePathPattern, parsePattern } from '../routing/pattern.ts';
import { parseDuration, parseSize } from './units.ts';

/**
 * The kinds of values options have. Each check says what is allowed and never repeats the value: it may have come from a
 * secret that was put in the wrong place.
 */

/** What an option's documentation says besides its type. Becomes a row of docs/configuration.md. */
export interface OptionMeta {
  readonly description: string;
  /** As it would be written; undefined for a required option or one whose default is explained in the description. */
  readonly shown?: string;
  readonly unit?: string;
}

/** Attaches an option's documentation to its type. */
export const doc = <T extends z.ZodType>(type: T, meta: OptionMeta): T => type.meta({ ...meta }) as T;

/** Names that become labels and keys. */
export const ID = /^[a-z0-9][a-z0-9._-]{0,62}$/;
export const ID_RULE =
  'lower-case letters, digits, dots, dashes and underscores, 63 at most, beginning with a letter or digit';

export const id = () => z.string({ error: 'must be a name' }).regex(ID, { error: `must be a name: ${ID_RULE}` });

export const text = () => z.string({ error: 'must be a text' }).min(1, { error: 'must not be empty' });

export const flag = () => z.boolean({ error: 'must be true or false' });

export const whole = (min: number, max: number) =>
  z
    .number({ error: `must be a whole number from ${min} to ${max}` })
    .int({ error: 'must be a whole number' })
    .min(min, { error: `must be at least ${min}` })
    .max(max, { error: `must be at most ${max}` });

/** Milliseconds. */
export const duration = (minMs: number, maxMs: number) =>
  z.string({ error: 'must be a duration such as 250ms, 30s, 5m or 24h' }).transform((value, context) => {
    const ms = parseDuration(value);
    if (ms === null) context.addIssue({ code: 'custom', message: 'must be a duration such as 250ms, 30s, 5m or 24h' });
    else if (ms < minMs || ms > maxMs) {
      context.addIssue({ code: 'custom', message: `must be from ${showDuration(minMs)} to ${showDuration(maxMs)}` });
    }
    return ms ?? 0;
  });

/** Bytes. */
export const size = (minBytes: number, maxBytes: number) =>
  z.string({ error: 'must be a size such as 64KiB or 10MiB' }).transform((value, context) => {
    const bytes = parseSize(value);
    if (bytes === null) context.addIssue({ code: 'custom', message: 'must be a size such as 64KiB or 10MiB' });
    else if (bytes < minBytes || bytes > maxBytes) {
      context.addIssue({ code: 'custom', message: `must be from ${showSize(minBytes)} to ${showSize(maxBytes)}` });
    }
    return bytes ?? 0;
  });

export const pattern = () =>
  z.string({ error: 'must be a method and a path, such as "GET /api/v1/**"' }).transform((value, context) => {
    const parsed = parsePattern(value);
    if (!parsed.ok) {
      context.addIssue({ code: 'custom', message: parsed.reason });
      return z.NEVER;
    }
    return parsed.pattern;
  });

export const pathPattern = () =>
  z.string({ error: 'must be a path such as /api/v1/flows/**' }).superRefine((value, context) => {
    const parsed = parsePathPattern(value);
    if (!parsed.ok) context.addIssue({ code: 'custom', message: parsed.reason });
  });

/** `https://host[:port]`: nothing else, so that a route can not lead anywhere but to a path the caller asked for. */
export const origin = () =>
  z.string({ error: 'must be an origin such as https://core.wearepatchworks.com' }).superRefine((value, context) => {
    const url = URL.canParse(value) ? new URL(value) : null;
    const plain = url !== null && /^https?:$/.test(url.protocol) && url.origin === value.toLowerCase();
    if (!plain) {
      const message = 'must be an origin: http or https, host and port, without path, query or credentials';
      context.addIssue({ code: 'custom', message });
    }
  });

export const httpUrl = () =>
  z.string({ error: 'must be a URL' }).superRefine((value, context) => {
    const url = URL.canParse(value) ? new URL(value) : null;
    const plain = url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '';
    if (!plain) context.addIssue({ code: 'custom', message: 'must be an http or https URL without credentials in it' });
  });

export function showDuration(ms: number): string {
  for (const [unit, size] of [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1_000],
  ] as const) {
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}

export function showSize(bytes: number): string {
  for (const [unit, size] of [
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
  ] as const) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return `${bytes}B`;
}
