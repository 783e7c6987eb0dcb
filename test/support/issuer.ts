import { constants, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Pair } from './certificate-authority.ts';

export const ISSUER = 'https://kubernetes.default.svc.cluster.local';
export const AUDIENCE = 'patchgate';

const part = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

export interface TestKey {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly jwk: Record<string, unknown>;
}

export function rsaKey(kid: string, alg = 'RS256', modulusLength = 2048): TestKey {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength });
  return { kid, alg, privateKey, publicKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' } };
}

export function ecKey(kid: string): TestKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { kid, alg: 'ES256', privateKey, publicKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' } };
}

export interface Minting {
  readonly header?: Record<string, unknown>;
  readonly claims?: Record<string, unknown>;
  readonly now?: number;
  /** In place of the claims. */
  readonly text?: string;
}

/** Claims as the API server of Kubernetes writes them for a projected token of an hour. */
export function kubernetesClaims(now = Date.now(), namespace = 'billing', name = 'worker') {
  const seconds = Math.floor(now / 1000);
  return {
    aud: [AUDIENCE],
    exp: seconds + 3607,
    iat: seconds,
    iss: ISSUER,
    jti: '6e4a3a0e-8b5f-4f4e-9a52-0d9c1d1b2f77',
    'kubernetes.io': {
      namespace,
      node: { name: 'node-1', uid: '646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1' },
      pod: { name: `${name}-1`, uid: '5e0bd49b-f040-43b0-99b7-22765a53f7f3' },
      serviceaccount: { name, uid: '14ee3fa4-a7e2-420f-9f9a-dbc4507c3798' },
    },
    nbf: seconds,
    sub: `system:serviceaccount:${namespace}:${name}`,
  };
}

/** A token of such claims, signed by the key. */
export function mint(key: TestKey, { header, claims, now, text }: Minting = {}): string {
  const signed = `${part({ alg: key.alg, kid: key.kid, ...header })}.${part(text ?? { ...kubernetesClaims(now), ...claims })}`;
  const signature = sign(`sha${key.alg.slice(-3)}`, Buffer.from(signed), {
    key: key.privateKey,
    ...(key.alg.startsWith('ES') && { dsaEncoding: 'ieee-p1363' as const }),
    ...(key.alg.startsWith('PS') && { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }),
  });
  return `${signed}.${signature.toString('base64url')}`;
}

/** Signed by a shared secret, as a forger does with the public key that everybody can read. */
export function mintHmac(secret: string | Buffer, kid: string | undefined, alg = 'HS256'): string {
  const signed = `${part({ alg, ...(kid !== undefined && { kid }) })}.${part(kubernetesClaims())}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Any three parts. */
export const tokenOf = (header: unknown, claims: unknown, signature = ''): string =>
  `${part(header)}.${part(claims)}.${signature}`;

export interface JwksServer {
  readonly url: string;
  /** `Authorization` of each request so far; '' without one. */
  readonly requests: readonly string[];
  /** Answers from now on. */
  answer(how: RequestListener): void;
  publish(...keys: readonly TestKey[]): void;
  /** Refuses connections until it is opened again, on the same port. */
  close(): Promise<void>;
  open(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A server of a key set, which answers 404 at first. @param tls its certificate; plain HTTP without one */
export async function jwksServer(tls?: Pair): Promise<JwksServer> {
  const requests: string[] = [];
  let how: RequestListener = (_, outgoing) => void outgoing.writeHead(404).end();
  const listener: RequestListener = (incoming, outgoing) => {
    requests.push(incoming.headers.authorization ?? '');
    how(incoming, outgoing);
  };
  const server =
    tls === undefined ? createServer(listener) : createTlsServer({ cert: tls.cert, key: tls.key }, listener);
  let port = 0;
  const open = async (): Promise<void> => {
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  };
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  await open();
  return {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}/openid/v1/jwks`,
    requests,
    answer: (next) => {
      how = next;
    },
    publish: (...keys) => {
      how = (_, outgoing) => {
        outgoing.writeHead(200, { 'Content-Type': 'application/jwk-set+json' });
        outgoing.end(JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }));
      };
    },
    ...{ open, close },
    [Symbol.asyncDispose]: close,
  };
}
