import type { Log, Meter } from '../ports.ts';
import type { UpstreamLimit } from './ledger.ts';

/** Tells metrics and log what an answer said of the account's limit. */
export function tellOfAnswer(
  account: string,
  seen: UpstreamLimit,
  ours: boolean,
  to: { readonly meter: Meter; readonly log: Log },
): void {
  if (seen.throttled !== null) {
    const { retryAfterMs } = seen.throttled;
    to.meter.upstreamThrottled(account);
    to.log.warn({ account, retryAfterMs }, 'upstream answered 429: the account is held');
  }
  if (!ours) to.meter.invalidUpstreamHeader(account, 'x-ratelimit-limit');
}
