import { generateKeyPairSync, type JsonWebKey, type KeyObject, sign } from 'node:crypto';
import type { Clock } from '../clock.ts';

interface TokenOptions {
  readonly issuer: string;
  readonly subject?: string | undefined;
  readonly audience: string;
  /** May be negative: an expired token. */
  readonly lifetimeSeconds?: number | undefined;
  /** Further claims; they replace the others. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined;
}

interface SigningKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly jwk: JsonWebKey;
}

const DEFAULT_LIFETIME_SECONDS = 3_600;

/** A stand-in for a service that issues tokens to callers of the gateway, such as the API server of a Kubernetes cluster (ES256). */
export class TokenIssuer {
  readonly #clock: Clock;
  #made = 0;
  #key: SigningKey | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Its public key, as a JSON Web Key Set. */
  jwks(): { readonly keys: readonly JsonWebKey[] } {
    return { keys: [this.#current().jwk] };
  }

  mint({ issuer, subject, audience, lifetimeSeconds = DEFAULT_LIFETIME_SECONDS, claims }: TokenOptions): string {
    const { kid, privateKey } = this.#current();
    const now = Math.floor(this.#clock.now() / 1000);
    const times = { iat: now, nbf: now, exp: now + lifetimeSeconds };
    const head = encode({ alg: 'ES256', kid, typ: 'JWT' });
    const signed = `${head}.${encode({ iss: issuer, sub: subject, aud: [audience], ...times, ...claims })}`;
    const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${signature.toString('base64url')}`;
  }

  /** From now on another key is used and published. */
  rotate(): void {
    this.#key = null;
  }

  /** Made when it is needed. */
  #current(): SigningKey {
    if (this.#key !== null) return this.#key;
    this.#made += 1;
    const kid = `simulator-${this.#made}`;
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'ES256' };
    this.#key = { kid, privateKey, jwk };
    return this.#key;
  }
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
