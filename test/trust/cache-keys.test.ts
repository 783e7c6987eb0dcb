import { describe, expect, test } from 'vitest';
import { BILLING_KEY, configuration, run } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const AUTH = `X-API-Key: ${BILLING_KEY}`;

/** An upstream whose response says which company it was asked for, read as PHP reads it, and which Accept it got. */
async function start(cache: Record<string, unknown>, vary: string) {
  const upstream = await rawUpstream((socket, index) => {
    const lines = (upstream.requests()[index - 1] ?? '').split('\r\n').slice(1);
    const values = new Map(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toUpperCase().replaceAll('-', '_'), line.slice(colon + 1).trim()];
      }),
    );
    const body = JSON.stringify({ company: values.get('X_COMPANY') ?? null, accept: values.get('ACCEPT') ?? null });
    socket.write(
      `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n${vary}X-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: 200\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
  });
  const gateway = await run({ config: () => configuration(upstream.url, { cache }) });
  const sentBefore = upstream.requests().length;
  return {
    sent: () => upstream.requests().length - sentBefore,
    ask: async (...lines: string[]) => {
      const connection = lines.find((line) => line.startsWith('Connection:')) ?? 'Connection: close';
      const text = rawRequest('GET /api/v1/flows/1', [AUTH, ...lines.filter((line) => line !== connection)]);
      const response = await sendRaw(gateway.port, text.replace('Connection: close', connection));
      return {
        ...(JSON.parse(response.body) as { company: string | null; accept: string }),
        cache: response.headers['cache-status'],
      };
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

describe.each([
  [
    'by the Vary of the response',
    { rules: [{ match: 'GET /api/v1/**', ttl: '1h' }] },
    'Vary: X-Company, User-Agent\r\n',
  ],
  ['by the rule', { rules: [{ match: 'GET /api/v1/**', ttl: '1h', vary: ['x-company', 'user-agent'] }] }, ''],
])('a response that depends on a field %s', (_name, cache, vary) => {
  test.each([
    ['was listed in Connection', ['X-Company: 7', 'Connection: close, X-Company'], ['X-Company: 7'], '7'],
    [
      'was listed in a second Connection',
      ['X-Company: 7', 'Connection: close', 'connection: X-Company'],
      ['X-Company: 7'],
      '7',
    ],
    ['has a twin with an underscore', ['X_Company: 7'], [], null],
    ['has a twin besides itself', ['X-Company: 8', 'X_Company: 7'], ['X-Company: 8'], '8'],
    ['has a twin with a dot', ['X.Company: 7'], [], null],
    ['comes twice', ['X-Company: 8', 'X-Company: 7'], ['X-Company: 8'], '8'],
    ['comes twice, in other capitals', ['X-Company: 8', 'x-COMPANY: 7'], ['X-Company: 8'], '8'],
    ['comes with another that comes twice', ['User-Agent: a', 'User-Agent: b'], ['User-Agent: a'], null],
  ])('is never given to others when it %s', async (_how, attack, lines, expected) => {
    await using it = await start(cache, vary);
    // Twice: the first may teach the cache by which fields responses vary.
    expect((await it.ask(...attack)).cache).toBe('patchgate; fwd=bypass');
    expect((await it.ask(...attack)).cache).toBe('patchgate; fwd=bypass');
    const next = await it.ask(...lines);
    expect([next.company, next.cache]).toEqual([expected, 'patchgate; fwd=miss; stored']);
    expect((await it.ask(...lines)).cache).toMatch(/^patchgate; hit/);
    expect((await it.ask(...attack)).cache).toBe('patchgate; fwd=bypass');
  });
});

describe('requests that are sent alike are stored once', () => {
  const rules = { rules: [{ match: 'GET /api/v1/**', ttl: '1h' }] };

  test('whatever else they say', async () => {
    await using it = await start(rules, 'Vary: X-Forwarded-For, Cookie, Accept-Encoding\r\n');
    for (const lines of [
      [],
      ['Connection: keep-alive, close'],
      ['Connection: close, Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'],
      ['X-Forwarded-For: 192.0.2.1', 'X-Forwarded-For: 192.0.2.2', 'Cookie: a=b', 'X_Forwarded_For: 1'],
      ['Accept-Encoding: br'],
      ['Cache-Control: max-stale=5', 'Cache-Control: max-age=900'],
    ])
      await it.ask(...lines);
    expect(it.sent()).toBe(1);
  });

  test('the usual values of Accept are application/json upstream, and one entry', async () => {
    await using it = await start(rules, '');
    for (const accept of [
      '*/*',
      null,
      'application/json',
      'application/json, text/plain, */*',
      'text/html, */*;q=0.1',
    ]) {
      expect((await it.ask(...(accept === null ? [] : [`Accept: ${accept}`]))).accept).toBe('application/json');
    }
    expect(it.sent()).toBe(1);
  });

  test('an Accept without JSON passes as it is, and is an entry of its own', async () => {
    await using it = await start(rules, '');
    await it.ask();
    for (const accept of ['text/csv', '*/*, application/json;q=0']) {
      expect((await it.ask(`Accept: ${accept}`)).accept).toBe(accept);
    }
    expect(it.sent()).toBe(3);
  });
});
