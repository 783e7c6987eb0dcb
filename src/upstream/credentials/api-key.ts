import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log } from '../../ports.ts';
import type { Secret } from '../../secret.ts';
import type { Credential, CredentialResult } from './pool.ts';

export interface ApiKeyOptions {
  readonly id: string;
  readonly apiKey: Secret;
  readonly clock: Clock;
  readonly log: Log;
}

/** Another try of a rejected key costs a request, and a repaired key must work again without a restart. */
const BACKOFF_MS = 60_000;

/** An API key, sent verbatim, without a scheme word. */
export function apiKeyCredential({ id, apiKey, clock, log }: ApiKeyOptions): Credential {
  const issued: CredentialResult = {
    kind: 'issued',
    credential: { id, authorization: apiKey.reveal(), generation: 1 },
  };
  let backoffUntil = 0 as MonotonicMs;
  let failing = false;
  const backoffMs = (): number => Math.max(0, backoffUntil - clock.monotonic());
  return {
    id,
    issue() {
      const retryAfterMs = backoffMs();
      return retryAfterMs > 0 ? { kind: 'unavailable', reason: 'rejected', retryAfterMs } : issued;
    },
    rejected() {
      failing = true;
      backoffUntil = (clock.monotonic() + BACKOFF_MS) as MonotonicMs;
      log.warn({ credential: id, backoffMs: BACKOFF_MS }, 'upstream rejected the API key');
    },
    accepted() {
      failing = false;
    },
    failing: () => failing,
    status() {
      const ms = backoffMs();
      return { backoffMs: ms, reason: ms > 0 ? 'rejected' : null, expiresInMs: null };
    },
    close: () => {},
  };
}
