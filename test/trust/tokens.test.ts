import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { configuration, eventually, run } from '../support/gateway.ts';
import {
  AUDIENCE,
  ecKey,
  ISSUER,
  jwksServer,
  kubernetesClaims,
  mint,
  mintHmac,
  rsaKey,
  type TestKey,
  tokenOf,
} from '../support/issuer.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const FLOWS = '/api/v1/flow-runs';
const rsa = rsaKey('rsa-1');
const ec = ecKey('ec-1');
const stranger = rsaKey('rsa-1');
const claims = kubernetesClaims();
const good = mint(rsa);
const [head = '', body = '', signature = ''] = good.split('.');
const b64 = (text: string): string => Buffer.from(text).toString('base64url');
const deep = (depth: number): string => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
const as = (key: TestKey, alg: string): TestKey => ({ ...key, alg });
const pem = (key: TestKey): string => key.jwk['n'] as string;

/** Each is a token that a caller without a valid one could send. */
const FORGERIES: readonly (readonly [name: string, token: string, code: string])[] = [
  ['alg none', tokenOf({ alg: 'none' }, claims), 'token_invalid'],
  ['alg none with the key id', tokenOf({ alg: 'none', kid: 'rsa-1' }, claims), 'token_invalid'],
  ['alg none with a signature', tokenOf({ alg: 'none', kid: 'rsa-1' }, claims, signature), 'token_invalid'],
  ['alg NoNe', tokenOf({ alg: 'NoNe', kid: 'rsa-1' }, claims, 'AA'), 'token_invalid'],
  ['no alg', tokenOf({ kid: 'rsa-1' }, claims, signature), 'token_invalid'],
  ['alg that is no text', tokenOf({ alg: ['RS256'], kid: 'rsa-1' }, claims, signature), 'token_invalid'],
  ['alg __proto__', tokenOf({ alg: '__proto__', kid: 'rsa-1' }, claims, signature), 'token_invalid'],
  ['alg constructor', tokenOf({ alg: 'constructor', kid: 'rsa-1' }, claims, signature), 'token_invalid'],
  [
    'two algs in one header',
    `${b64('{"alg":"RS256","alg":"none","kid":"rsa-1"}')}.${body}.${signature}`,
    'token_invalid',
  ],
  ['HS256 with the modulus', mintHmac(pem(rsa), 'rsa-1'), 'token_invalid'],
  ['HS256 with the JWK', mintHmac(JSON.stringify(rsa.jwk), 'rsa-1'), 'token_invalid'],
  ['HS256 with the PEM', mintHmac(spki(rsa, 'pem'), 'rsa-1'), 'token_invalid'],
  ['HS256 with the DER', mintHmac(spki(rsa, 'der'), 'rsa-1'), 'token_invalid'],
  ['HS512 without a key id', mintHmac(spki(rsa, 'pem'), undefined, 'HS512'), 'token_invalid'],
  ['HS256 with an empty secret', mintHmac('', 'rsa-1'), 'token_invalid'],
  ['another key under the same id', mint(stranger), 'token_invalid'],
  ['an unknown key id', mint(rsaKey('rsa-9')), 'token_invalid'],
  ['a key id that is no text', mint(rsa, { header: { kid: 1 } }), 'token_invalid'],
  ['a key id that is a path', mint(stranger, { header: { kid: '../../../../dev/null' } }), 'token_invalid'],
  ['a key id __proto__', mint(stranger, { header: { kid: '__proto__' } }), 'token_invalid'],
  ['no key id and a key of its own', mint(stranger, { header: { kid: undefined } }), 'token_invalid'],
  ['its key in the header', mint(stranger, { header: { jwk: stranger.jwk } }), 'token_invalid'],
  ['RS512, which is not configured', mint(as(rsa, 'RS512')), 'token_invalid'],
  ['PS256, which is not configured', mint(as(rsa, 'PS256')), 'token_invalid'],
  ['ES256 by the id of an RSA key', mint({ ...ec, kid: 'rsa-1' }), 'token_invalid'],
  ['RS256 by the id of an EC key', mint({ ...rsa, kid: 'ec-1' }), 'token_invalid'],
  ['an EC signature of zeros', tokenOf({ alg: 'ES256', kid: 'ec-1' }, claims, b64('\0'.repeat(64))), 'token_invalid'],
  ['an unknown critical header', mint(rsa, { header: { crit: ['exp'], exp: 1 } }), 'token_invalid'],
  ['an unencoded payload', mint(rsa, { header: { crit: ['b64'], b64: false } }), 'token_invalid'],
  ['an empty list of critical headers', mint(rsa, { header: { crit: [] } }), 'token_invalid'],
  ['critical headers that are no list', mint(rsa, { header: { crit: 'b64' } }), 'token_invalid'],
  ['a changed claim', `${head}.${b64(JSON.stringify({ ...claims, sub: 'admin' }))}.${signature}`, 'token_invalid'],
  ['a changed header', `${b64('{"alg":"RS256","kid":"rsa-1","x":1}')}.${body}.${signature}`, 'token_invalid'],
  ['a signature that is cut', good.slice(0, -10), 'token_invalid'],
  ['no signature', `${head}.${body}.`, 'token_invalid'],
  ['another issuer', mint(rsa, { claims: { iss: 'https://elsewhere.example' } }), 'token_invalid'],
  ['no issuer', mint(rsa, { claims: { iss: undefined } }), 'token_invalid'],
  ['a list of issuers', mint(rsa, { claims: { iss: [ISSUER] } }), 'token_invalid'],
  ['another audience', mint(rsa, { claims: { aud: ['https://kubernetes.default.svc'] } }), 'token_invalid'],
  ['an audience that only begins alike', mint(rsa, { claims: { aud: `${AUDIENCE}-staging` } }), 'token_invalid'],
  ['no audience', mint(rsa, { claims: { aud: undefined } }), 'token_invalid'],
  ['an audience that is a map', mint(rsa, { claims: { aud: { [AUDIENCE]: true } } }), 'token_invalid'],
  ['no expiry', mint(rsa, { claims: { exp: undefined } }), 'token_invalid'],
  ['an expiry that is a text', mint(rsa, { claims: { exp: '9999999999' } }), 'token_invalid'],
  ['an expiry of null', mint(rsa, { claims: { exp: null } }), 'token_invalid'],
  ['an expiry long ago', mint(rsa, { claims: { exp: 1 } }), 'token_expired'],
  ['a beginning that is a text', mint(rsa, { claims: { nbf: '0' } }), 'token_invalid'],
  ['a beginning tomorrow', mint(rsa, { claims: { nbf: claims.nbf + 86_400 } }), 'token_invalid'],
  ['an unknown subject', mint(rsa, { claims: { sub: 'system:serviceaccount:billing:other' } }), 'identity_unknown'],
  ['the subject in capitals', mint(rsa, { claims: { sub: claims.sub.toUpperCase() } }), 'identity_unknown'],
  ['the subject in a list', mint(rsa, { claims: { sub: [claims.sub] } }), 'identity_unknown'],
  ['the subject with a space', mint(rsa, { claims: { sub: `${claims.sub} ` } }), 'identity_unknown'],
  ['no subject', mint(rsa, { claims: { sub: undefined } }), 'identity_unknown'],
  [
    'the subject of a prototype',
    signed(`{"__proto__":{"sub":"${claims.sub}"},"iss":"${ISSUER}","aud":"${AUDIENCE}","exp":${claims.exp}}`),
    'identity_unknown',
  ],
  ['64 KiB', mint(rsa, { claims: { padding: 'x'.repeat(64 * 1024) } }), 'token_invalid'],
  ['17 KiB of dots', '.'.repeat(17 * 1024), 'key_unknown'],
  ['17 KiB in the middle', `a.${'b'.repeat(17 * 1024)}.c`, 'token_invalid'],
  ['deep JSON in the claims', `${head}.${b64(deep(1_900))}.${signature}`, 'token_invalid'],
  ['deep JSON in the header', `${b64(deep(1_900))}.${body}.${signature}`, 'token_invalid'],
  ['deep lists', `${head}.${b64('['.repeat(8_000))}.${signature}`, 'token_invalid'],
  ['a header that is no JSON', `${b64('nonsense')}.${body}.${signature}`, 'token_invalid'],
  ['a header that is a list', `${b64('[]')}.${body}.${signature}`, 'token_invalid'],
  ['claims that are no JSON', `${head}.${b64('nonsense')}.${signature}`, 'token_invalid'],
  ['claims that are a text', signed(JSON.stringify('text')), 'token_invalid'],
  ['claims of null', signed('null'), 'token_invalid'],
  [
    'claims in bytes that are no UTF-8',
    `${head}.${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.${signature}`,
    'token_invalid',
  ],
  ['padding', `${head}==.${body}.${signature}`, 'token_invalid'],
  ['base64 of the other alphabet', `${head}.${body}.+/${signature.slice(2)}`, 'token_invalid'],
  ['padding after the signature', `${good}==`, 'token_invalid'],
  ['a space in the signature', `${head}.${body}.${signature.slice(0, 9)} ${signature.slice(9)}`, 'token_invalid'],
  ['a space within', `${head}.${body.slice(0, 9)} ${body.slice(9)}.${signature}`, 'token_invalid'],
  ['a length that base64 cannot have', `${head}.${body}x.${signature}`, 'token_invalid'],
  ['two parts', `${head}.${body}`, 'key_unknown'],
  ['five parts, as an encrypted token', `${head}.${body}.${signature}.${body}.${signature}`, 'key_unknown'],
  ['empty parts', 'a..b', 'key_unknown'],
];

function spki(key: TestKey, form: 'pem' | 'der'): Buffer {
  const made = key.publicKey.export({ type: 'spki', format: form as 'der' });
  return Buffer.from(made);
}

/** By the right key, whatever the claims are. */
function signed(text: string): string {
  return mint(rsa, { text });
}

describe('a forged token', () => {
  test('is 401 with a code and no more, with nothing sent upstream, and nothing of it in the log', {
    timeout: 60_000,
  }, async () => {
    await using server = await jwksServer();
    server.publish(rsa, ec);
    // Where a header asks the verifier to look for keys.
    const fetched: string[] = [];
    const elsewhere = createServer((incoming, outgoing) => {
      fetched.push(incoming.url ?? '');
      outgoing.end(JSON.stringify({ keys: [stranger.jwk] }));
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const there = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}`;
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          identity: { issuers: { cluster: { issuer: ISSUER, audience: AUDIENCE, jwks: { url: server.url } } } },
          limits: { failedAuth: 10_000, headers: '128KiB' },
          tenants: {
            ...(configuration(upstream)['tenants'] as object),
            worker: { identities: [{ issuer: 'cluster', subject: claims.sub }], quota: { burst: 200 } },
          },
        }),
    });
    await eventually(async () => (await gateway.metric('patchgate_issuer_keys')) === 2, 'keys are read');
    const ask = async (token: string) => {
      const got = await sendRaw(gateway.port, rawRequest(`GET ${FLOWS}`, [`Authorization: Bearer ${token}`]));
      return [got.status, JSON.parse(got.body).code];
    };
    const all = [
      ...FORGERIES,
      ['a place for keys in the header', mint(stranger, { header: { jku: there, x5u: there } }), 'token_invalid'],
      [
        'a place for keys in the header, and no key id',
        mint(stranger, { header: { kid: undefined, jku: there } }),
        'token_invalid',
      ],
    ] as const;
    for (const [name, token, code] of all) expect([name, ...(await ask(token))]).toEqual([name, 401, code]);
    expect(gateway.simulator.arrivals()).toEqual([]);
    expect([fetched, server.requests.length]).toEqual([[], 1]);
    for (const [name, token] of all) {
      for (const piece of token.split('.').filter((each) => each.length > 12)) {
        expect([name, gateway.logText().includes(piece)]).toEqual([name, false]);
      }
    }
    expect((await ask(good))[0]).toBe(200);
    expect(gateway.logs().filter(({ level }) => level === 'error')).toEqual([]);
    elsewhere.close();
  });
});
