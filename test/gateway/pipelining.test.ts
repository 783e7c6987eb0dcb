import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { BILLING_KEY, configuration, eventually, run } from '../support/gateway.ts';
import { dial } from '../support/raw-socket.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const OK =
  'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: 200\r\nContent-Length: 2\r\n\r\n{}';

/** An upstream that answers a request when `answer` names its path. */
async function start() {
  const held = new Map<string, Socket>();
  const arrived: string[] = [];
  const upstream = await rawUpstream((socket, index) => {
    if (index === 1) {
      socket.write(OK);
      return;
    }
    const [method = '', path = ''] = (upstream.requests()[index - 1] ?? '').split(' ');
    arrived.push(`${method} ${path.slice('/api/v1/'.length)}`);
    held.set(path.slice('/api/v1/'.length), socket);
  });
  const gateway = await run({
    config: () =>
      configuration(upstream.url, {
        upstreams: { core: { origin: upstream.url, timeout: '10s' }, start: { origin: upstream.url } },
      }),
  });
  const caller = await dial(gateway.port);
  return {
    ...{ gateway, caller, arrived },
    pipeline: (...lines: string[]) =>
      caller.write(
        lines
          .map((line) => {
            const [method, path] = line.split(' ');
            return `${method} /api/v1/${path} HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\nContent-Length: 0\r\nX-Padding: ${'a'.repeat(1_000)}\r\n\r\n`;
          })
          .join(''),
      ),
    arrivals: (count: number) => eventually(() => arrived.length >= count, `${count} arrivals`),
    answer: (path: string) => void held.get(path)?.write(OK),
    async [Symbol.asyncDispose]() {
      caller[Symbol.dispose]();
      await gateway[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

describe('pipelined requests of one connection (RFC 9112 section 9.3.2)', () => {
  test('a write is sent after the one before it has been answered', async () => {
    await using it = await start();
    it.pipeline('POST a', 'DELETE b', 'PATCH c');
    await it.arrivals(1);
    // Another connection overtakes: the gateway is not waiting for anything else.
    const other = it.gateway.fetch('/api/v1/other', { method: 'POST' });
    await it.arrivals(2);
    expect(it.arrived).toEqual(['POST a', 'POST other']);
    it.answer('a');
    await it.arrivals(3);
    it.answer('other');
    expect((await other).status).toBe(200);
    expect(it.arrived).toEqual(['POST a', 'POST other', 'DELETE b']);
    it.answer('b');
    await it.arrivals(4);
    it.answer('c');
    await it.caller.responses(3);
    expect(it.caller.statuses()).toEqual([200, 200, 200]);
  });

  test('a read waits for a write before it, and a write waits for the reads before it', async () => {
    await using it = await start();
    it.pipeline('POST a', 'GET b', 'GET c', 'POST d');
    await it.arrivals(1);
    it.answer('a');
    await it.arrivals(3);
    expect(it.arrived.slice(1).sort()).toEqual(['GET b', 'GET c']);
    it.answer('c');
    it.answer('b');
    await it.arrivals(4);
    expect(it.arrived[3]).toBe('POST d');
    it.answer('d');
    await it.caller.responses(4);
  });

  test('a write behind another is not sent when the caller disconnects', async () => {
    await using it = await start();
    it.pipeline('POST a', 'POST b');
    await it.arrivals(1);
    it.caller.socket.destroy();
    await eventually(
      () => it.gateway.logs().filter((line) => line['code'] === 'client_closed').length === 2,
      'both ended',
    );
    it.answer('a');
    await eventually(
      async () => (await it.gateway.metric('patchgate_http_requests_in_flight')) === 0,
      'none in flight',
    );
    expect(it.arrived).toEqual(['POST a']);
  });

  test('a flood of pipelined writes is read only as fast as it is carried out', async () => {
    await using it = await start();
    const writes = Array.from({ length: 20_000 }, (_, index) => `POST ${index}`);
    it.pipeline(...writes);
    await it.arrivals(1);
    await eventually(() => it.caller.socket.writableLength > 0, 'back-pressure');
    // Each of the first is answered in its turn.
    for (let index = 0; index < 50; index += 1) {
      await it.arrivals(index + 1);
      it.answer(String(index));
    }
    await it.arrivals(51);
    expect(it.arrived.slice(0, 51)).toEqual(writes.slice(0, 51));
    expect(await it.gateway.metric('patchgate_http_requests_in_flight')).toBeLessThan(200);
  });
});
