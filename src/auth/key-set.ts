import type { Clock, EpochMs } from '../clock.ts';
import type { Log } from '../ports.ts';
import { type PublicKeys, parseJwks } from './jwks.ts';

/** The public keys of an issuer. */
export interface KeySet {
  /** Null: they have not been read yet. */
  current(): PublicKeys | null;
  /** A token names a key that is not there: reads them again, if the last time is long enough ago. Never rejects. */
  renew(): Promise<void>;
  status(): KeySetStatus;
  /** Reads them now, and again and again. */
  start(): void;
  close(): void;
}

export interface KeySetStatus {
  /** Number of keys in use. */
  readonly keys: number;
  /** When they were last read; null: never. */
  readonly readAt: EpochMs | null;
  /** Why the last attempt failed; null: it did not. */
  readonly problem: string | null;
}

/** The reason is for people who operate the gateway, and holds no secret. */
export type ReadText = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly reason: string };

/** Reads the document. Never rejects. */
export type ReadJwks = (closing: AbortSignal) => Promise<ReadText>;

export interface KeySetOptions {
  /** Name of the issuer in the configuration. */
  readonly issuer: string;
  readonly read: ReadJwks;
  readonly clock: Clock;
  readonly log: Log;
}

/** A key that was withdrawn is accepted no longer than this, while the server can be reached. */
const PERIOD_MS = 5 * 60_000;
/** Anybody can name unknown keys: they must not make requests to the issuer. */
const RENEW_MS = 30_000;
/** Without any key every token is refused. */
const FIRST_MS = 5_000;

/** Keys that are read from a server. They stay in use while it is away. */
export function createKeySet({ issuer, read, clock, log }: KeySetOptions): KeySet {
  let keys: PublicKeys | null = null;
  let text = '';
  let status: KeySetStatus = { keys: 0, readAt: null, problem: null };
  let readingSince = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | null = null;
  let cancel = (): void => {};
  const closing = new AbortController();

  const failed = (reason: string): void => {
    if (status.problem !== reason) log.warn({ issuer, reason }, 'keys of an issuer not read');
    status = { ...status, problem: reason };
  };
  const readOnce = async (): Promise<void> => {
    const received = await read(closing.signal);
    if (closing.signal.aborted) return;
    if (!received.ok) return failed(received.reason);
    const parsed = parseJwks(received.text);
    if (!parsed.ok) return failed(parsed.reason);
    const changed = received.text !== text;
    if (changed || status.problem !== null) log.info({ issuer, keys: parsed.count }, 'keys of an issuer read');
    // The same keys stay the same object, so that verified tokens stay known.
    if (changed) keys = parsed.keys;
    text = received.text;
    status = { keys: parsed.count, readAt: clock.now(), problem: null };
  };
  const attempt = (): Promise<void> => {
    if (reading !== null) return reading;
    cancel();
    readingSince = clock.monotonic();
    reading = readOnce().finally(() => {
      reading = null;
      const failedMs = keys === null ? FIRST_MS : RENEW_MS;
      if (!closing.signal.aborted)
        cancel = clock.after(status.problem === null ? PERIOD_MS : failedMs, () => void attempt());
    });
    return reading;
  };

  return {
    current: () => keys,
    async renew() {
      if (reading !== null || clock.monotonic() - readingSince >= RENEW_MS) await attempt();
    },
    status: () => status,
    start() {
      if (readingSince === Number.NEGATIVE_INFINITY) void attempt();
    },
    close() {
      closing.abort();
      cancel();
    },
  };
}

/** Keys that are part of the configuration; a reload replaces them. */
export function fixedKeySet(keys: PublicKeys, count: number, readAt: EpochMs): KeySet {
  return {
    current: () => keys,
    renew: async () => {},
    status: () => ({ keys: count, readAt, problem: null }),
    start: () => {},
    close: () => {},
  };
}
