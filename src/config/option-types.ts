import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { parsePathPattern, parsePattern } from '../routing/pattern.ts';
import { Secret } from '../secret.ts';

// The types of options. A message says what is allowed and never quotes the value, which may be a misplaced secret.

/** The documentation of an option besides its type and default: a row of docs/configuration.md. */
export interface OptionMeta {
  readonly description: string;
  /** Durations and sizes have theirs. */
  readonly unit?: string;
}

/** Attaches the documentation to the type of an option. */
export const doc = <T extends z.ZodType>(type: T, meta: OptionMeta): T => type.meta({ ...meta }) as T;

/** An option that may be left out: then its setting is null. */
export const optional = <T extends z.ZodType>(type: T) => type.optional().transform((value) => value ?? null);

/** Names that become metric labels and Redis keys. */
export const ID = /^[a-z0-9][a-z0-9._-]{0,62}$/;
export const ID_RULE =
  'lower-case letters, digits, dots, dashes and underscores, 63 at most, beginning with a letter or digit';

export const id = () => z.string({ error: 'must be a name' }).regex(ID, { error: `must be a name: ${ID_RULE}` });

export const text = () => z.string({ error: 'must be a text' }).min(1, { error: 'must not be empty' });

/** A longer text is no secret, but the wrong file. */
export const MAX_SECRET_BYTES = 8 * 1024;

const secretOf = (value: string) => new Secret(value);

const boundedText = () =>
  text().refine((value) => Buffer.byteLength(value) <= MAX_SECRET_BYTES, {
    error: `must be at most ${showSize(MAX_SECRET_BYTES)}: is it the right file?`,
  });

/** A password, or another secret that is not sent in a header. */
export const secretText = () => boundedText().transform(secretOf);

// Not by `regex`: it would get into the schema of the chart, and Helm's expressions know no lookahead and no large repetition.

/** A secret that is sent as the value of a header. Node and undici refuse others, one request at a time. */
export const headerSecret = () =>
  boundedText()
    .refine((value) => /^[\x20-\x7e]*$/.test(value) && value.trim() === value, {
      error: 'must be printable ASCII in one line, without spaces around it: it is sent in a header',
    })
    .transform(secretOf);

/** A token that a client sends after `Bearer`; null for an empty one. */
export const bearerToken = () =>
  z
    .string({ error: 'must be a text' })
    .refine((value) => value.length <= MAX_SECRET_BYTES && /^[\x21-\x7e]*$/.test(value), {
      error: `must be printable ASCII without spaces, at most ${showSize(MAX_SECRET_BYTES)}: it is sent in a header`,
    })
    .transform((value) => (value === '' ? null : new Secret(value)));

/** A directory or file, whatever the working directory is. */
export const absolutePath = () =>
  z.string({ error: 'must be a path' }).refine((value) => value.startsWith('/'), {
    error: 'must be an absolute path, such as /var/lib/patchgate',
  });

export const flag = () => z.boolean({ error: 'must be true or false' });

export const whole = (min: number, max: number) =>
  z
    .number({ error: `must be a whole number from ${min} to ${max}` })
    .int({ error: 'must be a whole number' })
    .min(min, { error: `must be at least ${min}` })
    .max(max, { error: `must be at most ${max}` });

/** Milliseconds. A default is given as text, by `prefault`: the documentation shows it as it is written. */
export const duration = (minMs: number, maxMs: number) =>
  measure('duration', 'must be a duration such as 250ms, 30s, 5m or 24h', DURATIONS, minMs, maxMs);

/** Bytes. A default is given as text. */
export const size = (minBytes: number, maxBytes: number) =>
  measure('size', 'must be a size such as 64KiB or 10MiB', SIZES, minBytes, maxBytes);

function measure(unit: string, rule: string, units: Units, min: number, max: number) {
  const inRange = (value: string, context: z.RefinementCtx): number => {
    const parsed = parse(value, units);
    if (parsed === null) context.addIssue({ code: 'custom', message: rule });
    else if (parsed < min || parsed > max) {
      context.addIssue({ code: 'custom', message: `must be from ${show(min, units)} to ${show(max, units)}` });
    }
    return parsed ?? 0;
  };
  return z.string({ error: rule }).meta({ unit }).transform(inRange);
}

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

const CIDR_RULE = 'must be a CIDR such as 10.0.0.0/8';
export const cidr = () =>
  z.string({ error: CIDR_RULE }).refine((value) => ipaddr.isValidCIDR(value), { error: CIDR_RULE });

/** Null for any other text. */
const httpUrlOf = (value: string): URL | null => {
  const url = URL.canParse(value) ? new URL(value) : null;
  return url !== null && /^https?:$/.test(url.protocol) ? url : null;
};

/** `https://host[:port]` without a path: the path of a request is always the one that the caller sent. */
export const origin = () =>
  z
    .string({ error: 'must be an origin such as https://core.wearepatchworks.com' })
    .refine((value) => httpUrlOf(value)?.origin === value.toLowerCase(), {
      error: 'must be an origin: http or https, host and port, without path, query or credentials',
    });

export const httpUrl = () =>
  z.string({ error: 'must be a URL' }).refine(
    (value) => {
      const url = httpUrlOf(value);
      return url !== null && url.username === '' && url.password === '';
    },
    { error: 'must be an http or https URL without credentials in it' },
  );

/** RFC 9110 section 5.6.2. */
export const headerName = () =>
  z
    .string({ error: 'must be the name of a header' })
    .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, { error: 'must be the name of a header' });

/** Options that narrow what one key or identity may do. Both are enforced for an observed tenant too. */
export const narrowing = (what: string) => ({
  allow: doc(optional(z.array(pattern())), {
    description: `Permissions of this ${what}, which narrow those of the tenant and never add to them: a request must match both. Enforced also where the tenant is observed; another request gets \`route_forbidden\`. Default: all permissions of the tenant.`,
  }),
  cidrs: doc(optional(z.array(cidr()).min(1, { error: 'must name at least one range, or be left out' })), {
    description: `Addresses from which this ${what} may be used, after \`listen.trustedProxies\`; from another one it gets \`address_forbidden\`, also where the tenant is observed. Behind a proxy that is not trusted, the address is the one of the proxy. Default: any.`,
  }),
});

/** From the largest to the smallest. */
type Units = readonly (readonly [name: string, value: number])[];
const DURATIONS: Units = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
  ['ms', 1],
];
const SIZES: Units = [
  ['GiB', 1024 ** 3],
  ['MiB', 1024 ** 2],
  ['KiB', 1024],
  ['B', 1],
];

export function showDuration(ms: number): string {
  return show(ms, DURATIONS);
}

export function showSize(bytes: number): string {
  return show(bytes, SIZES);
}

/** `250ms 30s 5m 24h 180d` → milliseconds; null if it is none. */
export function parseDuration(text: string): number | null {
  return parse(text, DURATIONS);
}

function show(value: number, units: Units): string {
  const [name, size] = units.find(([, each]) => value >= each && value % each === 0) ?? (units.at(-1) as Units[number]);
  return `${value / size}${name}`;
}

function parse(text: string, units: Units): number | null {
  const [, amount, name] = /^(\d+(?:\.\d+)?)([A-Za-z]+)$/.exec(text.trim()) ?? [];
  const unit = units.find(([each]) => each === name);
  const value = unit === undefined ? Number.NaN : Math.round(Number(amount) * unit[1]);
  return Number.isSafeInteger(value) ? value : null;
}
