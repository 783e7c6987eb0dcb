import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';

/** A key that tokens in Redis are sealed with. */
export interface SealingKey {
  readonly id: string;
  /** 32 bytes. */
  readonly bytes: Buffer;
}

/** What a sealed token is bound to: moved to another place, it can not be opened. */
export interface SealedFor {
  readonly account: string;
  readonly credential: string;
  /** Id of the token. */
  readonly token: string;
}

export type Opened =
  | { readonly ok: true; readonly token: string /** With the first key. */; readonly current: boolean }
  | { readonly ok: false; readonly why: 'unknown key' | 'damaged' };

const ALGORITHM = 'aes-256-gcm';
const VERSION = '1';
/** 96 bits, which is what GCM takes without hashing: by chance, safe for 2^32 tokens a key (NIST SP 800-38D, 8.3). */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** `1:<key id>:<nonce, tag and ciphertext as base64url>`. A key's id has no colon. */
export function seal(token: string, place: SealedFor, { id, bytes }: SealingKey): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(ALGORITHM, bytes, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(boundTo(place, id));
  const hidden = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
  return `${VERSION}:${id}:${Buffer.concat([nonce, cipher.getAuthTag(), hidden]).toString('base64url')}`;
}

/** With whichever of the keys it was sealed with. Never throws. */
export function open(sealed: string, place: SealedFor, keys: readonly SealingKey[]): Opened {
  const [version, keyId, text, ...more] = sealed.split(':');
  if (version !== VERSION || keyId === undefined || text === undefined || more.length > 0) return DAMAGED;
  const key = keys.find(({ id }) => id === keyId);
  if (key === undefined) return { ok: false, why: 'unknown key' };
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.length < NONCE_BYTES + TAG_BYTES) return DAMAGED;
  try {
    const decipher = createDecipheriv(ALGORITHM, key.bytes, bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(boundTo(place, keyId));
    decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    const token = Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
    return { ok: true, token: token.toString('utf8'), current: key === keys[0] };
  } catch {
    return DAMAGED;
  }
}

/**
 * Tells two passwords apart and nothing else of them: without the key it can not be guessed at. The key for it is another
 * than the one that seals, though both come from the same bytes.
 */
export function markOf(password: string, { id, bytes }: SealingKey): string {
  const key = Buffer.from(hkdfSync('sha256', bytes, '', 'patchgate mark of a password', 32));
  return `${id}:${createHmac('sha256', key).update(password).digest('base64url').slice(0, 22)}`;
}

/** As JSON, so that no two places read the same. */
function boundTo({ account, credential, token }: SealedFor, keyId: string): Buffer {
  return Buffer.from(JSON.stringify(['patchgate token', VERSION, keyId, account, credential, token]));
}

const DAMAGED: Opened = { ok: false, why: 'damaged' };
