import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { configuration, eventually, run } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const MINUTE_MS = 60_000;
const GOOD =
  'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: 200\r\nContent-Length: 2\r\n\r\n{}';

async function world(answer: (socket: Socket, turn: number) => void) {
  const clock = new ManualClock();
  const carriers: Socket[] = [];
  let asked = 0;
  const upstream = await rawUpstream((socket, turn) => {
    carriers.push(socket);
    answer(socket, turn);
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
    /** Connections that the requests came on, in order; without the one that a gateway begins with. */
    carriers: () => carriers.slice(1),
    /** Each for something else: two who ask the same share one request. */
    ask: async () => {
      asked += 1;
      return (await gateway.fetch(`/api/v1/flow-runs/${asked}`)).text();
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

describe('a connection to upstream', () => {
  test('carries one request after another', async () => {
    await using there = await world((socket) => void socket.write(GOOD));
    for (let i = 0; i < 5; i += 1) expect(await there.ask()).toBe('{}');
    there.clock.advance(MINUTE_MS / 2);
    expect(await there.ask()).toBe('{}');
    expect(new Set(there.carriers()).size).toBe(1);
  });

  test('carries no new request after a minute, so that an upstream whose name leads elsewhere is followed', async () => {
    await using there = await world((socket) => void socket.write(GOOD));
    await there.ask();
    // In use all the time: it is never idle.
    for (let passed = 0; passed < MINUTE_MS; passed += 5_000) {
      there.clock.advance(5_000);
      expect(await there.ask()).toBe('{}');
    }
    const carriers = there.carriers();
    expect(carriers.at(-1)).not.toBe(carriers[0]);
    await eventually(() => there.upstream.open() === 1, 'the old connection is closed');
  });

  test('finishes what it carries when its minute is over', async () => {
    const held: Socket[] = [];
    await using there = await world((socket, turn) => {
      if (turn === 2) held.push(socket);
      else socket.write(GOOD);
    });
    const slow = there.ask();
    await eventually(() => held.length === 1, 'the request is there');
    there.clock.advance(MINUTE_MS);
    for (let i = 0; i < 3; i += 1) expect(await there.ask()).toBe('{}');
    held[0]?.write(GOOD);
    expect(await slow).toBe('{}');
    await eventually(() => there.upstream.open() === 1, 'the old connection is closed');
  });
});
