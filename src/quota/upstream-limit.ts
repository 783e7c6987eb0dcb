import type { EpochMs } from '../clock.ts';
import type { UpstreamLimit } from './ledger.ts';

/** What an answer says of the account's limit. Malformed fields are reported and count as absent. */
export function readUpstreamLimit(options: {
  readonly status: number;
  readonly headers: readonly string[];
  readonly now: EpochMs;
  readonly malformed: (field: string) => void;
}): UpstreamLimit {
  const { headers, malformed } = options;
  let limit: number | null = null;
  let remaining: number | null = null;
  let retryAfterMs: number | null = null;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    // Three lengths of names matter; this runs for every header of every answer.
    if (name.length !== 11 && name.length !== 17 && name.length !== 21) continue;
    const lower = name.toLowerCase();
    const value = (headers[i + 1] as string).trim();
    if (lower === 'x-ratelimit-limit') limit = count(value) ?? report(lower, malformed);
    else if (lower === 'x-ratelimit-remaining') remaining = count(value) ?? report(lower, malformed);
    else if (lower === 'retry-after' && options.status === 429) {
      retryAfterMs = retryAfter(value, options.now) ?? report(lower, malformed);
    }
  }
  return { limit, remaining, throttled: options.status === 429 ? { retryAfterMs } : null };
}

/** RFC 9110 section 10.2.3: seconds, or a date. A date that has passed means now. */
function retryAfter(value: string, now: EpochMs): number | null {
  const seconds = count(value);
  if (seconds !== null) return seconds * 1000;
  // Date.parse takes much that is no HTTP date ("-1" is a year): the day name must be there.
  if (!/^[A-Z][a-z]{2,8},? /.test(value)) return null;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

function count(value: string): number | null {
  return /^\d{1,9}$/.test(value) ? Number(value) : null;
}

function report(field: string, malformed: (field: string) => void): null {
  malformed(field);
  return null;
}
