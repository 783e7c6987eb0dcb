import { createHash } from 'node:crypto';
import { decodeJwt } from 'jose/jwt/decode';
import { jwtVerify } from 'jose/jwt/verify';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import type { Meter } from '../ports.ts';
import type { KeySet, PublicKeys } from './key-set.ts';
import type { KeyEntry } from './tenant.ts';

/** A service that issues tokens, and what its tokens must have. */
export interface IssuerTerms {
  /** Its name in the configuration. */
  readonly id: string;
  /** `iss` of its tokens. */
  readonly issuer: string;
  readonly audiences: readonly string[];
  readonly algorithms: readonly string[];
  readonly clockToleranceMs: number;
}

/** With its keys, and the tenants' identities among its callers. */
export interface Issuer extends IssuerTerms {
  readonly keys: KeySet;
  readonly identities: readonly TokenIdentity[];
}

type ClaimValue = string | number | boolean;

export interface TokenIdentity extends Omit<KeyEntry, 'kind' | 'expiresAtMs'> {
  /** All of them must be in the token; the subject is `sub`. */
  readonly claims: ReadonlyMap<string, ClaimValue>;
}

type Verified =
  | { readonly kind: 'accepted'; readonly entry: KeyEntry }
  | {
      readonly kind: 'rejected';
      readonly code: 'token_invalid' | 'token_expired' | 'identity_unknown' | 'state_unavailable';
      /** For the log: why. Nothing of a token that was not verified. */
      readonly internal: string;
      /** For the caller: its verified identity, which no tenant has. */
      readonly identity?: string;
    };

/** Finds the tenant of a caller that has no key. */
export interface IdentityStore {
  /** Whether a value may be a token. False where no issuer is configured: then every value is a key. */
  isToken(value: string): boolean;
  /** Never rejects. */
  verify(token: string): Promise<Verified>;
  /** @param uris of the certificate of the connection, which an authority of the port has signed; null: no tenant has one */
  ofCertificate(uris: readonly string[]): Verified | null;
}

/** Why a token was rejected: a label of a metric. */
type TokenFault =
  | 'too_large'
  | 'malformed'
  | 'issuer_unknown'
  | 'algorithm'
  | 'critical_header'
  | 'key_unknown'
  | 'key_ambiguous'
  | 'key_unusable'
  | 'signature'
  | 'audience'
  | 'not_yet_valid'
  | 'expired'
  | 'claims'
  | 'identity_unknown'
  | 'identity_ambiguous'
  | 'keys_missing';

/** Tokens of Kubernetes and GitHub have less than 2 KiB. Larger ones are not parsed. */
const MAX_TOKEN_BYTES = 16 * 1024;
/** Some 3 MB. Beyond them the least recently used one is verified again when it comes back. */
const MAX_REMEMBERED_TOKENS = 10_000;
/** The last moment that a Date can hold. */
const MAX_EPOCH_MS = 8.64e15;
/** Three parts between dots (RFC 7515 section 7.1). */
const TOKEN = /^[^.]+\.[^.]+\.[^.]*$/;
/** `atob`, which jose uses, also reads spaces and padding. */
const BASE64URL = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** By error code of jose. */
const FAULTS: Readonly<Record<string, TokenFault>> = {
  ERR_JWS_INVALID: 'malformed',
  ERR_JWT_INVALID: 'malformed',
  ERR_JOSE_ALG_NOT_ALLOWED: 'algorithm',
  ERR_JOSE_NOT_SUPPORTED: 'critical_header',
  ERR_JWKS_NO_MATCHING_KEY: 'key_unknown',
  ERR_JWKS_MULTIPLE_MATCHING_KEYS: 'key_ambiguous',
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: 'signature',
  ERR_JWT_EXPIRED: 'expired',
  ERR_JWT_CLAIM_VALIDATION_FAILED: 'claims',
};
const FAULTS_OF_CLAIMS: Readonly<Record<string, TokenFault>> = { aud: 'audience', nbf: 'not_yet_valid' };

interface Remembered {
  readonly entry: KeyEntry;
  readonly issuer: Issuer;
  /** Its key may have been withdrawn since, if the issuer has others. */
  readonly keys: PublicKeys;
  readonly untilMs: number;
}

/**
 * Finds tenants by the claims of tokens that it verifies, and by certificates. A verified token is remembered by its digest until it expires, so that a busy
 * caller's token is verified once.
 *
 * @param issuers no two of them have the same `issuer`
 * @param certificates by URI
 */
export function createIdentityStore(options: {
  readonly issuers: readonly Issuer[];
  readonly certificates: ReadonlyMap<string, KeyEntry>;
  readonly clock: Clock;
  readonly meter: Pick<Meter, 'tokenRejected'>;
}): IdentityStore {
  const { certificates, clock, meter } = options;
  const issuers = new Map(options.issuers.map((each) => [each.issuer, each]));
  const remembered = new LRUCache<string, Remembered>({ max: MAX_REMEMBERED_TOKENS });

  const rejected = (issuer: Issuer | null, fault: TokenFault, detail = ''): Extract<Verified, { kind: 'rejected' }> => {
    meter.tokenRejected(issuer?.id ?? '', fault);
    const internal = `token of ${issuer?.id ?? 'no known issuer'}: ${fault}${detail === '' ? '' : ` ${detail}`}`;
    return { kind: 'rejected', code: codeOf(fault), internal };
  };

  const recall = (digest: string): Verified | null => {
    const known = remembered.get(digest);
    if (known === undefined) return null;
    const { entry, issuer, keys, untilMs } = known;
    const expired = untilMs <= clock.now();
    if (!expired && issuer.keys.current() === keys) return { kind: 'accepted', entry };
    remembered.delete(digest);
    return expired ? rejected(issuer, 'expired') : null;
  };

  const verifyFirst = async (token: string, digest: string): Promise<Verified> => {
    const named = issuerNamedIn(token);
    if (named === null) return rejected(null, 'malformed');
    const issuer = issuers.get(named);
    if (issuer === undefined) return rejected(null, 'issuer_unknown');
    const read = await readToken(token, issuer, clock);
    if (read.kind === 'fault') return rejected(issuer, read.fault);
    const { claims, keys } = read;
    const matching = issuer.identities.filter((identity) => hasClaims(claims, identity.claims));
    const [identity] = matching;
    const subject = shown(claims['sub']);
    if (identity === undefined) return { ...rejected(issuer, 'identity_unknown', subject), identity: subject };
    if (matching.some(({ tenant }) => tenant !== identity.tenant)) {
      return rejected(issuer, 'identity_ambiguous', `${subject} ${matching.map(({ tenant }) => tenant.id).join(', ')}`);
    }
    const expiresAtMs = Math.min(Number(claims['exp']) * 1000, MAX_EPOCH_MS);
    const { claims: _, ...caller } = identity;
    const entry: KeyEntry = { ...caller, kind: 'identity', expiresAtMs };
    remembered.set(digest, { entry, issuer, keys, untilMs: expiresAtMs + issuer.clockToleranceMs });
    return { kind: 'accepted', entry };
  };

  return {
    isToken: (value) => issuers.size > 0 && TOKEN.test(value),
    async verify(token) {
      if (token.length > MAX_TOKEN_BYTES) return rejected(null, 'too_large');
      const digest = createHash('sha256').update(token, 'latin1').digest('base64url');
      return recall(digest) ?? verifyFirst(token, digest);
    },
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

type Read =
  | { readonly kind: 'claims'; readonly claims: Readonly<Record<string, unknown>>; readonly keys: PublicKeys }
  | { readonly kind: 'fault'; readonly fault: TokenFault };

/** Verifies signature, times, issuer and audience. An unknown key may be a new one: then the keys are read again, once. */
async function readToken(token: string, issuer: Issuer, clock: Clock): Promise<Read> {
  const first = await readWith(issuer.keys.current(), token, issuer, clock);
  if (first.kind === 'claims' || (first.fault !== 'key_unknown' && first.fault !== 'keys_missing')) return first;
  const before = issuer.keys.current();
  await issuer.keys.renew();
  const now = issuer.keys.current();
  return now === before ? first : readWith(now, token, issuer, clock);
}

async function readWith(keys: PublicKeys | null, token: string, issuer: Issuer, clock: Clock): Promise<Read> {
  if (keys === null) return { kind: 'fault', fault: 'keys_missing' };
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer: issuer.issuer,
      audience: [...issuer.audiences],
      algorithms: [...issuer.algorithms],
      requiredClaims: ['exp'],
      clockTolerance: issuer.clockToleranceMs / 1000,
      currentDate: new Date(clock.now()),
    });
    return { kind: 'claims', claims: payload, keys };
  } catch (error) {
    return { kind: 'fault', fault: faultOf(error) };
  }
}

/** By the code alone: other fields of jose's errors repeat the token's claims. */
function faultOf(error: unknown): TokenFault {
  const { code, claim } = error as { readonly code?: unknown; readonly claim?: unknown };
  const fault = FAULTS[String(code)] ?? 'key_unusable';
  return fault === 'claims' ? (FAULTS_OF_CLAIMS[String(claim)] ?? 'claims') : fault;
}

function codeOf(fault: TokenFault): 'token_invalid' | 'token_expired' | 'identity_unknown' | 'state_unavailable' {
  if (fault === 'expired') return 'token_expired';
  if (fault === 'keys_missing') return 'state_unavailable';
  return fault === 'identity_unknown' || fault === 'identity_ambiguous' ? 'identity_unknown' : 'token_invalid';
}

/** Not verified yet: it only selects the keys. Null: there is none, or it is no text. */
function issuerNamedIn(token: string): string | null {
  if (!BASE64URL.test(token)) return null;
  try {
    const { iss } = decodeJwt(token);
    return typeof iss === 'string' ? iss : null;
  } catch {
    return null;
  }
}

function hasClaims(token: Readonly<Record<string, unknown>>, wanted: ReadonlyMap<string, ClaimValue>): boolean {
  for (const [name, value] of wanted) {
    const given = Object.hasOwn(token, name) ? token[name] : undefined;
    // A subject is one text (RFC 7519 section 4.1.2); lists are for claims such as groups.
    const inList = name !== 'sub' && Array.isArray(given) && given.includes(value);
    if (given !== value && !inList) return false;
  }
  return true;
}

/** A claim as the log shows it. */
function shown(claim: unknown): string {
  return typeof claim === 'string' ? claim.replace(/[^!-~]/g, '?').slice(0, 256) : 'without a subject';
}
