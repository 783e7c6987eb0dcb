import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { problems } from '../../src/problem.ts';
import { BILLING_KEY, type CheckedGateway, configuration, eventually, runChecked } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;
const GOOD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}';
const head = (...lines: string[]) =>
  ['HTTP/1.1 200 OK', 'Content-Type: application/json', ...lines, '', ''].join('\r\n');
/** A second response, which no caller may receive as its own. */
const SPLIT = 'HTTP/1.1 200 OK\r\nX-Split: yes\r\nContent-Length: 2\r\n\r\n{}';
const get = () => rawRequest('GET /api/v1/flow-runs', [AUTH]);

/** A gateway whose upstream sends these bytes, and then closes the connection unless `closing` is false. */
async function behind(response: string | ((socket: Socket) => void), closing = true) {
  const upstream = await rawUpstream((socket, index) => {
    // The gateway sends the first request itself, and the last one checks that it still works.
    if (index !== 2)
      socket.write(
        GOOD.replace(
          'Content-Length',
          `X-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: ${240 - index}\r\nContent-Length`,
        ),
      );
    else if (typeof response === 'function') response(socket);
    else if (closing) socket.end(Buffer.from(response, 'latin1'));
    else socket.write(Buffer.from(response, 'latin1'));
  });
  const gateway = await runChecked({
    config: () =>
      configuration(upstream.url, {
        // Without retries, so that a single response decides.
        upstreams: {
          core: { origin: upstream.url, timeout: '500ms', retries: { max: 0 } },
          start: { origin: upstream.url },
        },
        cache: { rules: [] },
      }),
  });
  return {
    upstream,
    gateway,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

async function expectHealthy(gateway: CheckedGateway): Promise<void> {
  const next = await gateway.fetch('/api/v1/flow-runs');
  expect([next.status, await next.text(), next.headers.get('x-split')]).toEqual([200, '{}', null]);
  await gateway.expectUnharmed();
}

const BROKEN: readonly (readonly [string, string])[] = [
  ['no status line', 'nonsense\r\n\r\n'],
  ['a status that is none', 'HTTP/1.1 abc OK\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
  ['a status of four digits', 'HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n'],
  ['another version', 'HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['bare LF', GOOD.replaceAll('\r\n', '\n')],
  ['a bare CR in a value', `${head('X-A: a\rX-Split: yes', 'Content-Length: 2')}{}`],
  ['NUL in a value', `${head('X-A: a\0b', 'Content-Length: 2')}{}`],
  ['a control character in a value', `${head('X-A: a\x01b', 'Content-Length: 2')}{}`],
  ['a folded header', `${head('X-A: a', ' X-Split: yes', 'Content-Length: 2')}{}`],
  ['a name with a space', `${head('X A: b', 'Content-Length: 2')}{}`],
  ['a header without a colon', `${head('nonsense', 'Content-Length: 2')}{}`],
  ['two lengths that differ', `${head('Content-Length: 2', 'Content-Length: 60')}{}${SPLIT}`],
  ['one length twice', `${head('Content-Length: 2', 'Content-Length: 2')}{}`],
  ['a length and chunks', `${head('Content-Length: 2', 'Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\n\r\n${SPLIT}`],
  ['a negative length', `${head('Content-Length: -2')}{}`],
  ['headers of 100 KB', `${head(`X-A: ${'a'.repeat(100_000)}`, 'Content-Length: 2')}{}`],
  ['20,000 headers', `${head(...Array.from({ length: 20_000 }, () => 'a: b'), 'Content-Length: 2')}{}`],
  [
    '101 Switching Protocols',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello',
  ],
  ['only interim responses', 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(1_000)],
  ['nothing', ''],
];

describe('an upstream response that is not HTTP is a 502 for its caller, and for no other caller', () => {
  test.each(BROKEN)('%s', async (_name, bytes) => {
    await using running = await behind(bytes);
    const response = await sendRaw(running.gateway.port, get());
    expect(response.text.match(/HTTP\/1\.1 \d+/g)).toHaveLength(1);
    expect(response.text).not.toContain('X-Split');
    expect([response.status, JSON.parse(response.body).code]).toEqual([502, 'upstream_protocol']);
    expect(problems.upstream_protocol.status).toBe(502);
    await expectHealthy(running.gateway);
  });
});

describe('an upstream body that is cut off or malformed never looks complete to its caller', () => {
  test.each([
    ['ends early', `${head('Content-Length: 100')}{"a":`],
    ['ends early in chunks', `${head('Transfer-Encoding: chunked')}5\r\n{"a":\r\n`],
    ['has a chunk size that is none', `${head('Transfer-Encoding: chunked')}5\r\n{"a":\r\nxyz\r\n${SPLIT}`],
    ['has a chunk longer than it says', `${head('Transfer-Encoding: chunked')}5\r\n{"a":1}\r\n0\r\n\r\n`],
    ['has a chunk of 2^64 bytes', `${head('Transfer-Encoding: chunked')}5\r\n{"a":\r\nfffffffffffffffff\r\n`],
  ])('%s', async (_name, bytes) => {
    await using running = await behind(bytes);
    const response = await sendRaw(running.gateway.port, get());
    expect(response.text).not.toContain('X-Split');
    // Either a 502, or a body without its last chunk or with fewer bytes than Content-Length.
    const length = response.headers['content-length'];
    const complete =
      length === undefined ? response.body.endsWith('0\r\n\r\n') : response.body.length === Number(length);
    expect(response.status === 502 || !complete).toBe(true);
    await expectHealthy(running.gateway);
  });
});

describe('a response without a body reaches its caller, whatever length it declares', () => {
  test.each([
    ['304 with a length', 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 500\r\n\r\n', 304],
    ['304 with chunks', 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nTransfer-Encoding: chunked\r\n\r\n', 304],
    ['204 with a length', 'HTTP/1.1 204 No Content\r\nContent-Length: 500\r\n\r\n', 204],
    ['204 with a length of 0', 'HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n', 204],
    ['205 with a length of 0', 'HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n', 205],
  ])('%s', async (_name, bytes, status) => {
    for (const closing of [false, true]) {
      await using running = await behind(bytes, closing);
      const request = rawRequest('GET /api/v1/flow-runs', [AUTH, 'If-None-Match: "a"']);
      // On a connection that goes on: the next response must be found behind it.
      const response = await sendRaw(
        running.gateway.port,
        request.replace('Connection: close\r\n', '') + rawRequest('GET /_gateway/whoami', [AUTH]),
      );
      expect(response.status).toBe(status);
      expect(response.text.match(/HTTP\/1\.1 \d+/g)).toEqual([`HTTP/1.1 ${status}`, 'HTTP/1.1 200']);
      if (status !== 205) expect(response.headers['content-length']).toBeUndefined();
      await expectHealthy(running.gateway);
    }
  });
});

describe('a body that ends with its connection', () => {
  const start = 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: public, max-age=600\r\n';
  const heads = [
    ['without length and chunks', `${start}\r\n`],
    ['with Connection: close', `${start}Connection: close\r\n\r\n`],
    ['of HTTP/1.0', `${start.replace('1.1', '1.0')}\r\n`],
    ['with a coding that is not chunked', `${start}Transfer-Encoding: identity\r\n\r\n`],
  ] as const;

  test.each(heads)('is complete after a clean end, and not stored: %s', async (_name, bytes) => {
    for (const pause of [false, true]) {
      await using running = await behind((socket) => {
        socket.write(`${bytes}hello`);
        if (pause) setTimeout(() => socket.end(' world'), 50);
        else socket.end(' world');
      });
      const response = await sendRaw(running.gateway.port, get());
      expect([response.status, response.headers['cache-status']]).toEqual([200, 'patchgate; fwd=miss']);
      expect(response.text).toContain('hello');
      expect(response.text).toContain('world');
      // Asked again, and answered by the upstream's next response.
      await expectHealthy(running.gateway);
      expect(running.upstream.requests()).toHaveLength(3);
    }
  });

  test.each(heads)('is not complete after a reset, and not stored: %s', async (_name, bytes) => {
    await using running = await behind((socket) => {
      socket.write(`${bytes}hello`, () => setTimeout(() => socket.resetAndDestroy(), 50));
    });
    const response = await sendRaw(running.gateway.port, get());
    expect(response.text).not.toContain('0\r\n\r\n');
    if (response.status === 200) expect(response.headers['transfer-encoding']).toBe('chunked');
    else expect(response.status).toBe(502);
    await expectHealthy(running.gateway);
    expect(running.upstream.requests()).toHaveLength(3);
  });

  test('is no first response to a keyed write after a reset: the outcome is unknown', async () => {
    await using running = await behind((socket) => {
      socket.write(`${heads[0][1]}hello`, () => setTimeout(() => socket.resetAndDestroy(), 50));
    });
    const write = () =>
      sendRaw(
        running.gateway.port,
        rawRequest('POST /api/v1/data-pool', [AUTH, 'Idempotency-Key: k', 'Content-Length: 0']),
      );
    expect((await write()).text).not.toContain('0\r\n\r\n');
    expect([(await write()).status, running.upstream.requests().length]).toEqual([504, 2]);
  });
});

describe('bytes after a response reach no caller', () => {
  test.each([
    ['after its length', GOOD + SPLIT],
    ['after its last chunk', `${head('Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\n\r\n${SPLIT}`],
    ['in its trailers', `${head('Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\nX-Split: yes\r\nSet-Cookie: a=b\r\n\r\n`],
    ['after a 204', `HTTP/1.1 204 No Content\r\n\r\n${SPLIT}`],
    ['after a 304', `HTTP/1.1 304 Not Modified\r\n\r\n${SPLIT}`],
    ['after interim responses', `${'HTTP/1.1 103 Early Hints\r\nX-Split: yes\r\n\r\n'.repeat(3)}${GOOD}`],
  ])('%s', async (_name, bytes) => {
    await using running = await behind(bytes, false);
    const response = await sendRaw(running.gateway.port, get());
    expect(response.text.match(/HTTP\/1\.1 \d+/g)).toHaveLength(1);
    expect([200, 204, 304]).toContain(response.status);
    expect(response.text).not.toMatch(/x-split|set-cookie/i);
    await expectHealthy(running.gateway);
  });
});

describe('an upstream whose response never ends', () => {
  const flood =
    (piece: string, first = '') =>
    (socket: Socket) => {
      socket.write(first);
      const more = (): void => {
        while (!socket.destroyed && socket.write(piece));
        if (!socket.destroyed) socket.once('drain', () => setImmediate(more));
      };
      more();
    };

  test.each([
    ['interim responses', flood('HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n'.repeat(100)), 504],
    ['header bytes', flood('a'.repeat(10_000), 'HTTP/1.1 200 OK\r\nX-A: '), 502],
    ['empty lines before the status', flood('\r\n'.repeat(1_000)), 504],
  ] as const)('with endless %s is given up', async (_name, respond, status) => {
    await using running = await behind(respond);
    const response = await sendRaw(running.gateway.port, get());
    expect(response.status).toBe(status);
    await expectHealthy(running.gateway);
    await eventually(() => running.upstream.open() <= 1, 'its connection is closed');
  });

  test.each([
    ['chunk extensions', flood('a'.repeat(10_000), `${head('Transfer-Encoding: chunked')}2;`)],
    ['trailers', flood('X-A: b\r\n'.repeat(1_000), `${head('Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\n`)],
  ] as const)('with endless %s is cut off', async (_name, respond) => {
    await using running = await behind(respond);
    const response = await sendRaw(running.gateway.port, get());
    expect(response.status === 502 || !response.body.endsWith('0\r\n\r\n')).toBe(true);
    await expectHealthy(running.gateway);
    await eventually(() => running.upstream.open() <= 1, 'its connection is closed');
  });

  test('with an endless body is aborted when the client disconnects', async () => {
    await using running = await behind(flood('5\r\n12345\r\n'.repeat(1_000), head('Transfer-Encoding: chunked')));
    const abort = new AbortController();
    const response = await running.gateway.fetch('/api/v1/flow-runs', { signal: abort.signal });
    expect(response.status).toBe(200);
    abort.abort();
    await eventually(() => running.upstream.open() <= 1, 'its connection is closed');
    await expectHealthy(running.gateway);
  });
});
