import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { eventually } from '../../test/support/gateway.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createLiveUpdates, type Frames } from './live.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** Frames say which samples they bring: all there are by now, without those seen before. */
async function setUp(size = 0) {
  const clock = new ManualClock();
  const logged: string[] = [];
  const note = (_fields: unknown, message: string) => void logged.push(message);
  const world = { taken: 1, reads: 0, fails: false };
  const filler = 'x'.repeat(size);
  const frames = (): Frames => {
    world.reads += 1;
    if (world.fails) throw new Error('a fault');
    return (seen) => ({ text: JSON.stringify({ from: seen, to: world.taken, filler }), seen: world.taken });
  };
  const events = createLiveUpdates({ frames, clock, log: { debug: note, info: note, warn: note, error: note } });
  const responses: ServerResponse[] = [];
  const server = createServer((_incoming, outgoing) => {
    responses.push(outgoing);
    if (!events.attach(outgoing, { id: 'prometheus', role: 'read' })) outgoing.writeHead(503).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const listen = async () => {
    const incoming = await new Promise<IncomingMessage>((resolve) => get({ port, agent: false }, resolve));
    let text = '';
    let ended = false;
    incoming.on('data', (chunk) => {
      text += String(chunk).replaceAll('x', '');
    });
    incoming.on('end', () => {
      ended = true;
    });
    incoming.on('error', () => {});
    const told = () =>
      [...text.matchAll(/(?<!^event: holder\n)^data: (\{.*\})$/gm)].map(
        ([, json]) => JSON.parse(String(json)) as { from: number; to: number },
      );
    return { incoming, told, text: () => text, ended: () => ended };
  };
  /** A reader that does not read. */
  const listenRaw = (): Socket => {
    const socket = connect(port, '127.0.0.1');
    socket.pause();
    socket.write('GET / HTTP/1.1\r\nHost: admin.test\r\n\r\n');
    socket.on('error', () => {});
    closers.push(() => socket.destroy());
    return socket;
  };
  return { clock, events, world, logged, responses, listen, listenRaw };
}

it('tells first who reads, and what the reader may do', async () => {
  const { listen } = await setUp();
  const reader = await listen();
  await eventually(() => reader.told().length === 1, 'the first frame');
  expect(reader.text()).toMatch(/^event: holder\ndata: \{"id":"prometheus","role":"read"\}\n\ndata: /);
});

it('tells at once, and again every two seconds; that is the heartbeat too', async () => {
  const { clock, listen, world } = await setUp();
  const reader = await listen();
  expect(reader.incoming.headers).toMatchObject({ 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  await eventually(() => reader.told().length === 1, 'the first frame');
  world.taken = 4;
  clock.advance(2_000);
  await eventually(() => reader.told().length === 2, 'the second');
  expect(reader.told()).toMatchObject([
    { from: 0, to: 1 },
    { from: 1, to: 4 },
  ]);
});

it('reads the status once for all subscribers, and not at all without a subscriber', async () => {
  const { clock, listen, world } = await setUp();
  clock.advance(60_000);
  expect([world.reads, clock.pending]).toEqual([0, 0]);
  const readers = [await listen(), await listen(), await listen()];
  world.reads = 0;
  clock.advance(2_000);
  expect(world.reads).toBe(1);
  for (const { incoming } of readers) incoming.destroy();
  await eventually(() => clock.pending === 0, 'no timer is left when all are gone');
});

it('takes sixteen listeners and no more; the place of one that leaves is free', async () => {
  const { responses, listen } = await setUp();
  const readers = [];
  for (let i = 0; i < 16; i++) readers.push(await listen());
  expect((await listen()).incoming.statusCode).toBe(503);
  readers[0]?.incoming.destroy();
  await eventually(() => responses[0]?.closed === true, 'one has left');
  expect((await listen()).incoming.statusCode).toBe(200);
});

it('keeps no more than one frame for a reader that does not read, and lets it go after half a minute', async () => {
  const size = 8_000_000;
  const { clock, world, responses, listenRaw } = await setUp(size);
  listenRaw();
  await eventually(() => clock.pending === 1, 'it listens');
  for (let second = 2; second < 30; second += 2) {
    world.taken += 1;
    clock.advance(2_000);
    expect(responses[0]?.writableLength).toBeLessThan(size * 1.1);
  }
  expect(clock.pending).toBe(1);
  clock.advance(2_000);
  await eventually(() => clock.pending === 0, 'it is let go');
});

it('a slow reader gets the newest frame, and misses nothing of the history', async () => {
  const { clock, world, responses, listen } = await setUp(8_000_000);
  const reader = await listen();
  await eventually(() => reader.told().length === 1, 'the first frame');
  reader.incoming.pause();
  for (let i = 0; i < 5; i++) {
    world.taken += 1;
    clock.advance(2_000);
  }
  reader.incoming.resume();
  await eventually(() => responses[0]?.writableLength === 0, 'it has caught up');
  world.taken += 1;
  clock.advance(2_000);
  await eventually(() => reader.told().at(-1)?.to === world.taken, 'the newest');
  const told = reader.told();
  expect(told.length).toBeLessThan(7);
  for (const [i, { from }] of told.entries()) expect(from).toBe(told[i - 1]?.to ?? 0);
});

it('ends them when the gateway closes, and takes no more', async () => {
  const { clock, events, listen } = await setUp();
  const reader = await listen();
  events.close();
  await eventually(() => reader.ended(), 'it has ended');
  expect(reader.text()).toContain('event: closed');
  expect((await listen()).incoming.statusCode).toBe(503);
  expect(clock.pending).toBe(0);
});

it('ends them for a restart, after which they may come again', async () => {
  const { clock, events, listen } = await setUp();
  const reader = await listen();
  events.restart();
  clock.advance(10_000);
  await eventually(() => reader.ended(), 'it has ended');
  expect(reader.text()).toContain('event: restart');
  expect((await listen()).incoming.statusCode).toBe(200);
});

it('a fault in what is shown is logged, and ends nothing', async () => {
  const { clock, listen, world, logged } = await setUp();
  const reader = await listen();
  world.fails = true;
  clock.advance(2_000);
  world.fails = false;
  clock.advance(2_000);
  await eventually(() => reader.told().length === 2, 'the next frame arrives');
  expect(logged).toEqual(['status frame failed']);
});
