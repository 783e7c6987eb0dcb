import type { LoginOutcome } from './login-call.ts';

/** Rest after a failed login, doubled each time: at most a dozen attempts an hour. */
export const FIRST_REST_MS = 2_000;
export const LONGEST_REST_MS = 5 * 60_000;
/** Without a slot nothing was sent and nothing was learned: asked for again as soon as there may be one, but not in a loop. */
export const THROTTLED_REST_MS = 250;

export type FailedLogin = Extract<LoginOutcome, { kind: 'failed' }>;

/** @param failures logins that failed in a row before */
export function restAfter(failures: number): number {
  return Math.min(FIRST_REST_MS * 2 ** failures, LONGEST_REST_MS);
}

/** How long no login is tried, and how many have failed in a row then. One that was never sent does not count. */
export function restOf(failed: FailedLogin, failures: number): { readonly restMs: number; readonly failures: number } {
  if (failed.why === 'throttled') return { restMs: Math.max(THROTTLED_REST_MS, failed.retryAfterMs), failures };
  return { restMs: Math.max(restAfter(failures), failed.retryAfterMs), failures: failures + 1 };
}
