import { connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/gateway.ts';
import { LANE_BYTES } from './lane.mjs';
import { wire } from './wire.mjs';

/** A server that keeps its ends of the connections for the test to use. */
async function target() {
  const ends: End[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => ends.push(watched(socket)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    port,
    ends,
    async end(index = 0): Promise<End> {
      await eventually(() => ends.length > index, 'a connection to the target');
      return ends[index]!;
    },
    async close() {
      for (const { socket } of ends) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type End = ReturnType<typeof watched>;
function watched(socket: Socket) {
  let [text, bytes, ended, error] = ['', 0, false, ''];
  socket.on('data', (piece) => {
    bytes += piece.length;
    if (text.length < 1024) text += piece.toString('latin1');
  });
  socket.on('end', () => {
    ended = true;
  });
  socket.on('error', (reason: NodeJS.ErrnoException) => {
    error = reason.code ?? '';
  });
  return {
    socket,
    text: () => text,
    bytes: () => bytes,
    gets: (expected: string) => eventually(() => text === expected, `the text ${expected}`),
    isEnded: () => ended,
    ends: () => eventually(() => ended, 'a FIN'),
    isReset: () => eventually(() => error === 'ECONNRESET', 'an RST'),
    /** libuv may call an RST that comes together with bytes a plain end. */
    isCut: () => eventually(() => error === 'ECONNRESET' || ended, 'the end of the connection'),
    isRefused: () => eventually(() => error === 'ECONNREFUSED', 'a refused connection'),
  };
}

let far: Awaited<ReturnType<typeof target>>;
let link: Awaited<ReturnType<typeof wire>>;
const callers: Socket[] = [];
function dial(): End {
  const socket = connect({ port: link.port, host: '127.0.0.1', allowHalfOpen: true });
  callers.push(socket);
  return watched(socket);
}
beforeEach(async () => {
  far = await target();
  link = await wire(far.port);
});
afterEach(async () => {
  for (const socket of callers.splice(0)) socket.destroy();
  await link.close();
  await far.close();
});

describe('a wire with nothing wrong', () => {
  it('passes bytes both ways and counts them', async () => {
    const near = dial();
    near.socket.write('question');
    const end = await far.end();
    await end.gets('question');
    end.socket.write('answer');
    await near.gets('answer');
    expect(link.counts()).toMatchObject({ accepted: 1, open: 1, failed: 0, bytes: { up: 8, down: 6 } });
  });
  it('passes a half-close on and lets the other direction speak', async () => {
    const near = dial();
    near.socket.end('last words');
    const end = await far.end();
    await end.gets('last words');
    await end.ends();
    expect(near.isEnded()).toBe(false);
    end.socket.end('and the response');
    await near.gets('and the response');
    await eventually(() => link.counts().open === 0, 'no connection is left');
  });
  it('passes an RST on, either way', async () => {
    const [first, second] = [dial(), dial()];
    const [one, two] = [await far.end(0), await far.end(1)];
    one.socket.resetAndDestroy();
    await first.isReset();
    second.socket.resetAndDestroy();
    await two.isReset();
    await eventually(() => link.counts().open === 0, 'no connection is left');
  });
  it('shows a target that refuses as an RST, and counts it', async () => {
    await far.close();
    const near = dial();
    await near.isReset();
    expect(link.counts().failed).toBe(1);
  });
});

describe('what a direction suffers', () => {
  it('delays one direction and not the other', async () => {
    link.set({ delayMs: 300, jitterMs: 50 }, { direction: 'down' });
    const near = dial();
    const began = performance.now();
    near.socket.write('up');
    const end = await far.end();
    await end.gets('up');
    end.socket.write('a');
    end.socket.write('b');
    await near.gets('ab');
    expect(performance.now() - began).toBeGreaterThanOrEqual(299);
  });
  it('delays the end of a stream after what came before it', async () => {
    link.set({ delayMs: 100, jitterMs: 100 });
    const near = dial();
    for (const letter of 'abcdefghij') near.socket.write(letter);
    near.socket.end();
    const end = await far.end();
    await end.ends();
    expect(end.text()).toBe('abcdefghij');
  });
  it('throttles to a number of bytes a second, in small pieces', async () => {
    link.set({ bytesPerSecond: 1_000 }, { direction: 'down' });
    const near = dial();
    const end = await far.end();
    const began = performance.now();
    end.socket.write('x'.repeat(400));
    await eventually(() => near.bytes() > 0, 'the first piece');
    expect(near.bytes()).toBeLessThan(400);
    await eventually(() => near.bytes() === 400, 'all of it');
    // The last of the eight pieces is not followed by a wait.
    expect(performance.now() - began).toBeGreaterThanOrEqual(349);
  });
  it('swallows what is sent, and resets the connection when healed, because its stream has a hole', async () => {
    const near = dial();
    const untouched = dial();
    const end = await far.end();
    link.set({ swallow: true }, { direction: 'up' });
    near.socket.write('lost');
    end.socket.write('still heard');
    await near.gets('still heard');
    await link.heal();
    await near.isReset();
    expect(end.text()).toBe('');
    untouched.socket.write('whole');
    await (await far.end(1)).gets('whole');
  });
  it('stalls, and loses nothing when healed', async () => {
    const near = dial();
    const end = await far.end();
    link.set({ stall: true });
    near.socket.write('held');
    await eventually(() => link.counts().held === 4, 'the piece is held');
    expect(end.text()).toBe('');
    await link.heal();
    await end.gets('held');
  });
  it('stalls after so many bytes', async () => {
    link.set({ cut: { afterBytes: 5, how: 'stall' } }, { direction: 'down' });
    const near = dial();
    (await far.end()).socket.write('hello, world');
    await near.gets('hello');
    expect(link.counts().held).toBe(7);
    await link.heal();
    await near.gets('hello, world');
  });
  it('resets after so many bytes', async () => {
    link.set({ cut: { afterBytes: 5, how: 'reset' } }, { direction: 'down' });
    const near = dial();
    const end = await far.end();
    end.socket.write('hello, world');
    await near.isCut();
    await end.isReset();
    expect(near.bytes()).toBeLessThanOrEqual(5);
    expect(link.counts()).toMatchObject({ resets: 1, bytes: { down: 5 } });
  });
  it('closes after so many bytes, both ends', async () => {
    link.set({ cut: { afterBytes: 5, how: 'close' } }, { direction: 'down' });
    const near = dial();
    const end = await far.end();
    end.socket.write('hello, world');
    await near.gets('hello');
    await near.ends();
    await end.ends();
  });
  it('ends one direction alone after so many bytes: what the sender says then is lost, the way back stays open', async () => {
    link.set({ cut: { afterBytes: 5, how: 'end' } }, { direction: 'down' });
    const near = dial();
    const end = await far.end();
    end.socket.write('hello, world');
    await near.gets('hello');
    await near.ends();
    near.socket.write('still there?');
    await end.gets('still there?');
  });
  it('turns over one bit in so many bytes, across pieces', async () => {
    link.set({ corruptEvery: 3 }, { direction: 'down' });
    const near = dial();
    const end = await far.end();
    end.socket.write('aaaa');
    await eventually(() => near.bytes() === 4, 'the first piece');
    end.socket.write('aaaa');
    await near.gets('aa`aa`aa');
  });
});

describe('which connections', () => {
  it('disturbs only new connections if the rule says so', async () => {
    const old = dial();
    await far.end();
    link.set({ cut: { afterBytes: 0, how: 'reset' } }, { direction: 'down', connections: 'new' });
    await dial().isReset();
    (await far.end()).socket.write('unharmed');
    await old.gets('unharmed');
  });
  it('resets, closes or half-closes what is open, once', async () => {
    const first = dial();
    await far.end(0);
    link.cut('end');
    await first.ends();
    first.socket.write('still open');
    await (await far.end(0)).gets('still open');
    link.cut('reset');
    await (await far.end(0)).isReset();
    const second = dial();
    (await far.end(1)).socket.write('x');
    await second.gets('x');
    link.cut('close');
    await second.ends();
    await (await far.end(1)).ends();
  });
  it('refuses connections like a port without a listener, and opens the same port again', async () => {
    const near = dial();
    await far.end();
    link.refuse();
    await near.isReset();
    await dial().isRefused();
    await link.heal();
    dial().socket.write('again');
    await (await far.end(1)).gets('again');
  });
  it('leads connections to come elsewhere', async () => {
    const other = await target();
    const old = dial();
    await far.end();
    link.aim(other.port);
    dial().socket.write('there');
    await (await other.end()).gets('there');
    old.socket.write('here');
    await (await far.end()).gets('here');
    await other.close();
  });
});

describe('what it costs', () => {
  it('holds a bounded number of bytes: a sender waits for a receiver that does not read', async () => {
    link.set({ stall: true }, { direction: 'up' });
    const near = dial();
    const sent = 64 * LANE_BYTES;
    near.socket.write(Buffer.alloc(sent));
    await eventually(() => link.counts().held >= LANE_BYTES, 'the buffer is full');
    const held = link.counts().held;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(link.counts().held).toBe(held);
    expect(held).toBeLessThan(2 * LANE_BYTES);
    await link.heal();
    const end = await far.end();
    await eventually(() => end.bytes() === sent, 'all of it');
  });
  it('holds no more when the receiver itself is slow', async () => {
    const near = dial();
    const end = await far.end();
    end.socket.pause();
    near.socket.write(Buffer.alloc(64 * LANE_BYTES));
    await eventually(() => link.counts().held >= LANE_BYTES, 'the buffer is full');
    expect(link.counts().held).toBeLessThan(2 * LANE_BYTES);
  });
  it('closes at once with connections open, stalled and delayed', async () => {
    const near = dial();
    link.set({ delayMs: 60_000 });
    near.socket.write('never');
    await eventually(() => link.counts().held === 5, 'the piece is held');
    await link.close();
    expect(link.counts().open).toBe(0);
    link = await wire(far.port);
  });
});
