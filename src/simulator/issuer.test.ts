import { createPublicKey, type JsonWebKey, verify } from 'node:crypto';
import { expect, test } from 'vitest';
import { createSimulator } from './simulator.ts';

test('the issuer signs tokens with the key that it publishes, and with another one after it has rotated', async () => {
  const simulator = await createSimulator();
  const ask = async (method: string, path: string, body?: object) => {
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    return (await (await fetch(`${simulator.url}/_simulator/${path}`, init)).json()) as Record<string, unknown>;
  };
  const keyNow = async () => (await ask('GET', 'jwks'))['keys'] as [JsonWebKey & { kid: string }];
  const decoded = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString());
  const [first] = await keyNow();
  const wanted = { subject: 'worker', audience: 'gate', lifetime: 60, claims: { repository: 'team/a' } };
  const { token } = (await ask('POST', 'tokens', wanted)) as { token: string };
  const [head = '', body = '', signature = ''] = token.split('.');
  const key = { key: createPublicKey({ key: first, format: 'jwk' }), dsaEncoding: 'ieee-p1363' } as const;
  expect(verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url'))).toBe(true);
  expect(decoded(head)).toEqual({ alg: 'ES256', kid: first.kid, typ: 'JWT' });
  const claims = decoded(body);
  expect(claims).toMatchObject({ iss: simulator.url, sub: 'worker', aud: ['gate'], repository: 'team/a' });
  expect(claims.exp - claims.iat).toBe(60);
  await ask('POST', 'rotate');
  expect((await keyNow())[0].kid).not.toBe(first.kid);
  await simulator.close();
});
