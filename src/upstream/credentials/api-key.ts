import type { Clock, MonotonicMs } from '../../clock.ts';
import type { Log } from '../../ports.ts';
import type { Secret } from '../../secret.ts';
import type { Credential, Grant } from './pool.ts';

export interface ApiKeyOptions {
  readonly id: string;
  readonly apiKey: Secret;
  readonly clock: Clock;
  readonly log: Log;
}

/** A rejected key is left alone this long: a test of it costs a request, and a repaired key must come back without a restart. */
const REJECTED_MS = 60_000;

/** An API key, sent verbatim, without a scheme word. */
export function apiKeyCredential({ id, apiKey, clock, log }: ApiKeyOptions): Credential {
  const grant: Grant = {
    kind: 'granted',
    value: { authorization: apiKey.reveal(), credential: id, generation: 1 },
  };
  let restsUntil = 0 as MonotonicMs;
  let failing = false;
  const restsForMs = (): number => Math.max(0, restsUntil - clock.monotonic());
  return {
    id,
    grant() {
      const retryAfterMs = restsForMs();
      return retryAfterMs > 0 ? { kind: 'none', why: 'rejected', retryAfterMs } : grant;
    },
    rejected() {
      failing = true;
      restsUntil = (clock.monotonic() + REJECTED_MS) as MonotonicMs;
      log.warn({ credential: id, restMs: REJECTED_MS }, 'upstream rejected the API key');
    },
    accepted() {
      failing = false;
    },
    failing: () => failing,
    status() {
      const ms = restsForMs();
      return { restsForMs: ms, why: ms > 0 ? 'rejected' : null, expiresInMs: null };
    },
    close: () => {},
  };
}
