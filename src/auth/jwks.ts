import { createLocalJWKSet } from 'jose/jwks/local';
import type { JWTVerifyGetKey } from 'jose/jwt/verify';

/** Selects the public key for a token. Another object means other keys. */
export type PublicKeys = JWTVerifyGetKey;

export type ParsedJwks =
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
