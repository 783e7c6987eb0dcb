import { createLocalJWKSet } from 'jose/jwks/local';
import type { JWTVerifyGetKey } from 'jose/jwt/verify';
import type { Clock, EpochMs } from '../clock.ts';
import type { Log } from '../ports.ts';

/** Selects the public key for a token. Another object means other keys. */
export type PublicKeys = JWTVerifyGetKey;

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

interface KeySetStatus {
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

/** A key that was withdrawn is accepted no longer than this, while the server can be reached. */
const PERIOD_MS = 5 * 60_000;
/** Anybody can name unknown keys: they must not make requests to the issuer. */
const RENEW_MS = 30_000;
/** Without any key every token is refused. */
const FIRST_MS = 5_000;

/** Keys that are read from a server. They stay in use while it is away. @param issuer its name in the configuration */
export function createKeySet({
  issuer,
  read,
  clock,
  log,
}: {
  readonly issuer: string;
  readonly read: ReadJwks;
  readonly clock: Clock;
  readonly log: Log;
}): KeySet {
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

type ParsedJwks =
  | { readonly ok: true; readonly keys: PublicKeys; readonly count: number }
  | { readonly ok: false; readonly reason: string };

export const MAX_JWKS_BYTES = 1024 ** 2;
/** Issuers have two or three at a time. */
const MAX_KEYS = 100;
const KINDS = ['RSA', 'EC', 'OKP'];
/** RFC 7518 section 6: parts of a private key. */
const PRIVATE = ['d', 'p', 'q', 'priv'];

/**
 * Reads a JSON Web Key Set (RFC 7517). Keys for other purposes are left out. A document that contradicts itself is not used in part:
 * its reason says what is wrong, and quotes nothing of it.
 */
export function parseJwks(text: string): ParsedJwks {
  const found = signatureKeysIn(text);
  if (typeof found === 'string') return { ok: false, reason: found };
  try {
    return { ok: true, keys: createLocalJWKSet({ keys: found }), count: found.length };
  } catch {
    return { ok: false, reason: 'is no JSON Web Key Set' };
  }
}

type Jwk = Record<string, unknown> & { readonly kty: string };

/** A string says what is wrong. */
function signatureKeysIn(text: string): Jwk[] | string {
  if (text.length > MAX_JWKS_BYTES) return `is larger than ${MAX_JWKS_BYTES / 1024 ** 2} MiB`;
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return 'is no JSON';
  }
  const keys = isRecord(document) ? document['keys'] : undefined;
  if (!Array.isArray(keys)) return 'is no JSON Web Key Set: it has no list `keys`';
  if (keys.length > MAX_KEYS) return `has more than ${MAX_KEYS} keys`;
  const usable = keys.filter(isSignatureKey);
  if (usable.length === 0) return 'has no public key for signatures';
  if (usable.some((key) => PRIVATE.some((part) => part in key))) {
    return 'has a private key: every reader could make tokens; replace that key';
  }
  const ids = usable.flatMap(({ kid }) => (kid === undefined ? [] : [kid]));
  if (ids.some((id) => typeof id !== 'string')) return 'has a key whose `kid` is no text';
  return new Set(ids).size < ids.length ? 'has two keys with the same `kid`' : usable;
}

function isSignatureKey(key: unknown): key is Jwk {
  if (!isRecord(key) || !KINDS.includes(String(key['kty']))) return false;
  return key['use'] === undefined || key['use'] === 'sig';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
