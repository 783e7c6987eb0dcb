import type { KeyEntry } from './key-store.ts';
import type { TokenVerifier, Verified } from './verify-token.ts';

/** Finds the tenant of a caller that has no key. */
export interface IdentityStore {
  /** Whether a value may be a token. False where no issuer is configured: then every value is a key. */
  isToken(value: string): boolean;
  verify(token: string): Promise<Verified>;
  /** @param uris of the certificate of the connection, which an authority of the port has signed */
  ofCertificate(uris: readonly string[]): Verified | null;
}

/** Three parts between dots (RFC 7515 section 7.1). */
const TOKEN = /^[^.]+\.[^.]+\.[^.]*$/;

/**
 * @param tokens null: no issuer is configured
 * @param certificates by URI
 */
export function createIdentityStore(
  tokens: TokenVerifier | null,
  certificates: ReadonlyMap<string, KeyEntry>,
): IdentityStore {
  const NO_ISSUER: Verified = { kind: 'rejected', code: 'token_invalid', internal: 'no issuer' };
  return {
    isToken: (value) => tokens !== null && TOKEN.test(value),
    verify: async (token) => tokens?.verify(token) ?? NO_ISSUER,
    ofCertificate(uris) {
      if (certificates.size === 0 || uris.length === 0) return null;
      const found = uris.flatMap((uri) => certificates.get(uri) ?? []);
      const [entry] = found;
      if (entry !== undefined && found.every(({ tenant }) => tenant === entry.tenant))
        return { kind: 'accepted', entry };
      const internal = `${entry === undefined ? 'no tenant has' : 'several tenants have'} the certificate ${uris[0]}`;
      const [identity] = entry === undefined ? uris : [];
      return { kind: 'rejected', code: 'identity_unknown', internal, ...(identity !== undefined && { identity }) };
    },
  };
}
