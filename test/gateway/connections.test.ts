import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { configuration, eventually, run } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const MINUTE_MS = 60_000;
const GOOD =
  'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: 200\r\nContent-Length: 2\r\n\r\n{}';

async function start(respond: (socket: Socket, index: number) => void) {
  const clock = new ManualClock();
  const sockets: Socket[] = [];
  let sent = 0;
  const upstream = await rawUpstream((socket, index) => {
    sockets.push(socket);
    respond(socket, index);
  });
  const gateway = await run({
    clock,
    config: () =>
      configuration(upstream.url, {
        upstreams: { core: { origin: upstream.url, timeout: '10s' }, start: { origin: upstream.url } },
        cache: { rules: [] },
      }),
  });
  return {
    clock,
    gateway,
    upstream,
    /** The connection of each request, in order, without that of the gateway's first request. */
    sockets: () => sockets.slice(1),
    /** Each request has a path of its own: equal requests would share one. */
    send: async () => {
      sent += 1;
      return (await gateway.fetch(`/api/v1/flow-runs/${sent}`)).text();
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

describe('a connection to upstream', () => {
  test('carries one request after another', async () => {
    await using running = await start((socket) => void socket.write(GOOD));
    for (let i = 0; i < 5; i += 1) expect(await running.send()).toBe('{}');
    running.clock.advance(MINUTE_MS / 2);
    expect(await running.send()).toBe('{}');
    expect(new Set(running.sockets()).size).toBe(1);
  });

  test('carries no new request after a minute, so that a changed address of the upstream takes effect', async () => {
    await using running = await start((socket) => void socket.write(GOOD));
    await running.send();
    // The connection is busy all the time and never idle.
    for (let passed = 0; passed < MINUTE_MS; passed += 5_000) {
      running.clock.advance(5_000);
      expect(await running.send()).toBe('{}');
    }
    const sockets = running.sockets();
    expect(sockets.at(-1)).not.toBe(sockets[0]);
    await eventually(() => running.upstream.open() === 1, 'the old connection is closed');
  });

  test('completes a request in flight after its minute', async () => {
    const held: Socket[] = [];
    await using running = await start((socket, index) => {
      if (index === 2) held.push(socket);
      else socket.write(GOOD);
    });
    const slow = running.send();
    await eventually(() => held.length === 1, 'the request arrived');
    running.clock.advance(MINUTE_MS);
    for (let i = 0; i < 3; i += 1) expect(await running.send()).toBe('{}');
    held[0]?.write(GOOD);
    expect(await slow).toBe('{}');
    await eventually(() => running.upstream.open() === 1, 'the old connection is closed');
  });
});
