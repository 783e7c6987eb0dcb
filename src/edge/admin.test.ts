import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Log } from '../observe.ts';
import { Secret } from '../secret.ts';
import { type AdminOptions, createAdminApp, createAdminServer } from './admin.ts';

async function admin(more: Partial<AdminOptions> = {}) {
  const errors: unknown[] = [];
  const server = createAdminServer(
    createAdminApp({
      token: null,
      readiness: () => ({ ready: true, reasons: [] }),
      metrics: async () => ({ contentType: 'text/plain; version=0.0.4', text: 'a_metric 1\n' }),
      status: () => ({ fine: true }),
      config: () => ({ shown: '[secret]' }),
      log: { error: (fields: unknown) => errors.push(fields) } as unknown as Log,
      ...more,
    }),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    errors,
    get: (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${port}${path}`, init),
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

describe('the admin port', () => {
  test.each([
    ['/livez', 'ok\n'],
    ['/readyz', '{"ready":true,"reasons":[]}'],
    ['/metrics', 'a_metric 1\n'],
    ['/status', '{"fine":true}'],
    ['/config', '{"shown":"[secret]"}'],
  ])('answers %s to GET and HEAD, never to be kept', async (path, body) => {
    await using port = await admin();
    const response = await port.get(path);
    expect([response.status, await response.text()]).toEqual([200, body]);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    const head = await port.get(path, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
  });

  test('says that it is not ready, and why', async () => {
    await using port = await admin({ readiness: () => ({ ready: false, reasons: ['draining'] }) });
    const response = await port.get('/readyz');
    expect([response.status, await response.json()]).toEqual([503, { ready: false, reasons: ['draining'] }]);
    expect((await port.get('/livez')).status).toBe(200);
  });

  test('wants its token for everything but the probes', async () => {
    await using port = await admin({ token: new Secret('the-admin-token') });
    const as = (token: string) => ({ headers: { Authorization: token } });
    for (const path of ['/livez', '/readyz']) expect((await port.get(path)).status).toBe(200);
    for (const path of ['/metrics', '/status', '/config', '/unknown', '/livez/../config', '//config', '/LIVEZ']) {
      expect((await port.get(path)).status, path).toBe(401);
      expect((await port.get(path, as('Bearer the-admin-toke'))).status, path).toBe(401);
    }
    expect((await port.get('/metrics')).headers.get('www-authenticate')).toMatch(/^Bearer/);
    expect((await port.get('/metrics', as('Bearer the-admin-token'))).status).toBe(200);
  });

  test('knows nothing else, and says what it knows', async () => {
    await using port = await admin();
    const unknown = await port.get('/nothing');
    expect([unknown.status, unknown.headers.get('content-type')]).toEqual([404, 'application/problem+json']);
    const wrong = await port.get('/metrics', { method: 'POST' });
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  });

  test('shows nothing of an error inside', async () => {
    await using port = await admin({
      status: () => {
        throw new Error('internal-canary');
      },
    });
    const response = await port.get('/status');
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('canary');
    expect(port.errors).toHaveLength(1);
  });
});
