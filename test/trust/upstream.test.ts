import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { problems } from '../../src/problem.ts';
import { type Watched, watched } from '../support/aftermath.ts';
import { BILLING_KEY, configuration, eventually } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;
const GOOD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}';
const head = (...lines: string[]) =>
  ['HTTP/1.1 200 OK', 'Content-Type: application/json', ...lines, '', ''].join('\r\n');
/** What a caller must never take for an answer of its own. */
const SPLIT = 'HTTP/1.1 200 OK\r\nX-Split: yes\r\nContent-Length: 2\r\n\r\n{}';
const get = () => rawRequest('GET /api/v1/flow-runs', [AUTH]);

/** Bytes of an upstream, and what it does with the connection after them. */
async function behind(answer: string | ((socket: Socket) => void), closing = true) {
  const upstream = await rawUpstream((socket, turn) => {
    // The first request is the one a gateway begins with, the last the proof that it lives.
    if (turn !== 2)
      socket.write(
        GOOD.replace(
          'Content-Length',
          `X-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: ${240 - turn}\r\nContent-Length`,
        ),
      );
    else if (typeof answer === 'function') answer(socket);
    else if (closing) socket.end(Buffer.from(answer, 'latin1'));
    else socket.write(Buffer.from(answer, 'latin1'));
  });
  const gateway = await watched({
    config: () =>
      configuration(upstream.url, {
        // What one answer does: a read that failed would be sent again.
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

async function lives(gateway: Watched): Promise<void> {
  const next = await gateway.fetch('/api/v1/flow-runs');
  expect([next.status, await next.text(), next.headers.get('x-split')]).toEqual([200, '{}', null]);
  await gateway.unharmed();
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
  ['only interim answers', 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'.repeat(1_000)],
  ['nothing', ''],
];

describe('an answer of upstream that is no HTTP is a 502 for its caller, and for nobody else', () => {
  test.each(BROKEN)('%s', async (_name, bytes) => {
    await using world = await behind(bytes);
    const answer = await sendRaw(world.gateway.port, get());
    expect(answer.text.match(/HTTP\/1\.1 \d+/g)).toHaveLength(1);
    expect(answer.text).not.toContain('X-Split');
    expect([answer.status, JSON.parse(answer.body).code]).toEqual([502, 'upstream_protocol']);
    expect(problems.upstream_protocol.status).toBe(502);
    await lives(world.gateway);
  });
});

describe('a body of upstream that is cut or malformed never looks whole to its caller', () => {
  test.each([
    ['ends early', `${head('Content-Length: 100')}{"a":`],
    ['ends early in chunks', `${head('Transfer-Encoding: chunked')}5\r\n{"a":\r\n`],
    ['has a chunk size that is none', `${head('Transfer-Encoding: chunked')}5\r\n{"a":\r\nxyz\r\n${SPLIT}`],
    ['has a chunk longer than it says', `${head('Transfer-Encoding: chunked')}5\r\n{"a":1}\r\n0\r\n\r\n`],
    ['has a chunk of 2^64 bytes', `${head('Transfer-Encoding: chunked')}5\r\n{"a":\r\nfffffffffffffffff\r\n`],
  ])('%s', async (_name, bytes) => {
    await using world = await behind(bytes);
    const answer = await sendRaw(world.gateway.port, get());
    expect(answer.text).not.toContain('X-Split');
    // Refused before its headers went out; or cut off: no last chunk, fewer bytes than were promised.
    const length = answer.headers['content-length'];
    const whole = length === undefined ? answer.body.endsWith('0\r\n\r\n') : answer.body.length === Number(length);
    expect(answer.status === 502 || !whole).toBe(true);
    await lives(world.gateway);
  });
});

describe('what comes behind an answer is nobody’s answer', () => {
  test.each([
    ['behind its length', GOOD + SPLIT],
    ['behind its last chunk', `${head('Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\n\r\n${SPLIT}`],
    ['in its trailers', `${head('Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\nX-Split: yes\r\nSet-Cookie: a=b\r\n\r\n`],
    ['behind a 204', `HTTP/1.1 204 No Content\r\n\r\n${SPLIT}`],
    ['behind a 304', `HTTP/1.1 304 Not Modified\r\n\r\n${SPLIT}`],
    ['behind interim answers', `${'HTTP/1.1 103 Early Hints\r\nX-Split: yes\r\n\r\n'.repeat(3)}${GOOD}`],
  ])('%s', async (_name, bytes) => {
    await using world = await behind(bytes, false);
    const answer = await sendRaw(world.gateway.port, get());
    expect(answer.text.match(/HTTP\/1\.1 \d+/g)).toHaveLength(1);
    expect([200, 204, 304]).toContain(answer.status);
    expect(answer.text).not.toMatch(/x-split|set-cookie/i);
    await lives(world.gateway);
  });
});

describe('an upstream that never comes to an end', () => {
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
    ['interim answers', flood('HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n'.repeat(100)), 504],
    ['a header', flood('a'.repeat(10_000), 'HTTP/1.1 200 OK\r\nX-A: '), 502],
    ['empty lines before the status', flood('\r\n'.repeat(1_000)), 504],
  ] as const)('of %s is given up', async (_name, answer, status) => {
    await using world = await behind(answer);
    const response = await sendRaw(world.gateway.port, get());
    expect(response.status).toBe(status);
    await lives(world.gateway);
    await eventually(() => world.upstream.open() <= 1, 'its connection is closed');
  });

  test.each([
    ['a chunk extension', flood('a'.repeat(10_000), `${head('Transfer-Encoding: chunked')}2;`)],
    ['a trailer', flood('X-A: b\r\n'.repeat(1_000), `${head('Transfer-Encoding: chunked')}2\r\n{}\r\n0\r\n`)],
  ] as const)('of %s is cut off', async (_name, answer) => {
    await using world = await behind(answer);
    const response = await sendRaw(world.gateway.port, get());
    expect(response.status === 502 || !response.body.endsWith('0\r\n\r\n')).toBe(true);
    await lives(world.gateway);
    await eventually(() => world.upstream.open() <= 1, 'its connection is closed');
  });

  test('of a body goes on only as long as its caller reads', async () => {
    await using world = await behind(flood('5\r\n12345\r\n'.repeat(1_000), head('Transfer-Encoding: chunked')));
    const abort = new AbortController();
    const response = await world.gateway.fetch('/api/v1/flow-runs', { signal: abort.signal });
    expect(response.status).toBe(200);
    abort.abort();
    await eventually(() => world.upstream.open() <= 1, 'its connection is closed');
    await lives(world.gateway);
  });
});
