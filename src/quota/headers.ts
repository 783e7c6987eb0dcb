import type { Clock, EpochMs } from '../clock.ts';
import type { HeaderList, Middleware, RequestContext, Result } from '../context.ts';
import type { Log, Meter } from '../ports.ts';
import type { AccountQuota, AdvertisedLimit, QuotaStore, TenantView } from './quota-store.ts';

interface WithTenant extends RequestContext {
  readonly tenant: { readonly id: string; readonly accounts: readonly string[] };
  /** Not there in a request that was rejected before. */
  readonly route?: { readonly upstream: { readonly account: string } };
}

/** Puts the tenant's limits in the account of the request on every response and rejection from further in, cached ones too. */
export function rateLimitHeaders<E extends WithTenant>(options: {
  readonly quotaStore: QuotaStore;
  readonly clock: Clock;
}): Middleware<E, E> {
  return (next) =>
    async (context): Promise<Result> => {
      const result = await next(context);
      const { accounts, id } = context.tenant;
      const account = context.route?.upstream.account ?? accounts[0] ?? '';
      const headers = rateLimitHeadersOf(options.quotaStore.peek(account, id), options.clock);
      if (result.kind === 'rejection') return { ...result, headers: [...(result.headers ?? []), ...headers] };
      result.headers.push(...headers);
      return result;
    };
}

/**
 * The limits of a tenant's own quota, and the budgets that it may use. The numbers of the account's window never leave the
 * gateway; of a budget that is shared they do, because the tenant has no other limit.
 *
 * - `RateLimit-Policy`, `RateLimit`: draft-ietf-httpapi-ratelimit-headers-10. Structured fields (RFC 9651), formatted by hand
 *   because they are on every response; a test holds them to the library's serialisation
 * - `X-RateLimit-*` as clients of Patchworks know them; `-Reset` in seconds of the epoch, as Patchworks has it on a 429. `-Limit` is the
 *   burst, the most that `-Remaining` can be: clients subtract the two. The rate is in the policy
 */
export function rateLimitHeadersOf(view: TenantView, clock: Clock): HeaderList {
  const resetSeconds = Math.ceil(view.resetMs / 1000);
  let policy = `"tenant";q=${view.limit};w=60`;
  let limits = `"tenant";r=${view.remaining};t=${resetSeconds}`;
  for (const { id, allowed, left, startsAt, resetsAt } of view.budgets ?? []) {
    policy += `, "${id}";q=${allowed};w=${Math.round((resetsAt - startsAt) / 1000)}`;
    limits += `, "${id}";r=${left};t=${Math.max(0, Math.ceil((resetsAt - clock.now()) / 1000))}`;
  }
  return [
    'RateLimit-Policy',
    policy,
    'RateLimit',
    limits,
    'X-RateLimit-Limit',
    String(view.burst),
    'X-RateLimit-Remaining',
    String(view.remaining),
    'X-RateLimit-Reset',
    String(Math.ceil(clock.now() / 1000) + resetSeconds),
  ];
}

/**
 * The account's limit as a response of the upstream advertises it. Invalid headers are reported and count as absent. What
 * remains of a limit that cannot be read is unknown: it may be another counter's.
 */
export function parseAdvertisedLimit(options: {
  readonly status: number;
  readonly headers: readonly string[];
  readonly now: EpochMs;
  readonly onInvalid: (header: string) => void;
}): AdvertisedLimit {
  const { status, headers, now } = options;
  const parsed = <T>(name: string, value: T | null): T | null => {
    if (value === null) options.onInvalid(name);
    return value;
  };
  let limit: number | null = null;
  let isLimitReadable = true;
  let remaining: number | null = null;
  let retryAfterMs: number | null = null;
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] as string).toLowerCase();
    const value = (headers[i + 1] as string).trim();
    if (name === 'x-ratelimit-limit') {
      limit = parsed(name, parseCount(value));
      isLimitReadable = limit !== null;
    } else if (name === 'x-ratelimit-remaining') remaining = parsed(name, parseCount(value));
    else if (name === 'retry-after' && status === 429) retryAfterMs = parsed(name, parseRetryAfterMs(value, now));
  }
  if (!isLimitReadable) remaining = null;
  return { limit, remaining, throttled: status === 429 ? { retryAfterMs } : null };
}

/** @param isOurs whether the advertised limit is the configured one */
export function reportAdvertisedLimit(
  account: string,
  { throttled }: AdvertisedLimit,
  isOurs: boolean,
  { meter, log }: { readonly meter: Meter; readonly log: Log },
): void {
  if (throttled !== null) {
    meter.upstreamThrottled(account);
    log.warn({ account, retryAfterMs: throttled.retryAfterMs }, 'upstream answered 429: the account is in cooldown');
  }
  if (!isOurs) meter.invalidUpstreamHeader(account, 'x-ratelimit-limit');
}

/** The first response of new state did not say what the minute before has used. */
export function reportUnknownMinute(account: string, coldStart: AccountQuota['coldStart'] = 'trust', log: Log): void {
  log.warn(
    { account, coldStart },
    coldStart === 'wait'
      ? 'upstream sends no X-RateLimit-Remaining: nothing is sent until the minute before the start is over'
      : 'upstream sends no X-RateLimit-Remaining: the ceiling is guaranteed from a minute after the start on',
  );
}

/** RFC 9110 section 10.2.3: seconds, or a date. A date that has passed means now. */
function parseRetryAfterMs(value: string, now: EpochMs): number | null {
  const seconds = parseCount(value);
  if (seconds !== null) return seconds * 1000;
  // Date.parse accepts much that is no HTTP date ("-1" is a year): the day name must be there.
  if (!/^[A-Z][a-z]{2,8},? /.test(value)) return null;
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

function parseCount(value: string): number | null {
  return /^\d{1,9}$/.test(value) ? Number(value) : null;
}
