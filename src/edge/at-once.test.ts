import { createServer, type IncomingMessage, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Answer, answer, type Received } from '../exchange.ts';
import { sendAtOnce } from './at-once.ts';
import { respond } from './respond.ts';

const KEEP_ALIVE_MS = 75_000;
const BODY = Buffer.from('{"name":"Überweisung"}');
const DATED = ['Date', 'Thu, 26 Nov 2026 09:00:00 GMT', 'ETag', '"a"'];
const kinds: Record<string, () => Answer> = {
  '/json': () => answer(200, [...DATED, 'Content-Type', 'application/json'], BODY),
  '/empty': () => answer(200, [...DATED], Buffer.alloc(0)),
  '/unchanged': () => answer(304, [...DATED], null),
  '/nothing': () => answer(204, [...DATED], null),
  '/bodiless': () => answer(200, [...DATED], null),
  '/odd': () => answer(299, [...DATED], BODY),
  '/two': () => answer(200, [...DATED, 'Link', '<a>', 'Link', '<b>'], BODY),
  '/latin1': () => answer(200, [...DATED, 'X-Name', '\xfcber'], BODY),
  '/undated': () => answer(429, ['Retry-After', '1'], BODY),
  '/large': () => answer(200, [...DATED], Buffer.alloc(64 * 1024, 'x')),
};

/** A server that answers in the one way or in the other. */
async function answering(atOnce: boolean) {
  const send = atOnce ? sendAtOnce(KEEP_ALIVE_MS) : null;
  const held: (() => void)[] = [];
  const ends: boolean[] = [];
  const sockets: Socket[] = [];
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (incoming, outgoing) => {
    const exchange = { method: incoming.method, headers: incoming.headers, requestId: 'r-1' } as Received;
    outgoing.on('close', () => ends.push(outgoing.writableFinished));
    const path = incoming.url?.replace('/held', '') ?? '';
    const go = () => respond({ incoming, outgoing, exchange }, kinds[path]?.() as Answer, path === '/last', send);
    if (incoming.url?.startsWith('/held')) held.push(go);
    else go();
  });
  server.on('connection', (socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    ends,
    sockets,
    held,
    dial: () => dial(port),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function dial(port: number) {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.setEncoding('latin1').on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => {});
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return { socket, closed, text: () => text.replace(/(?<=Date: ).*?(?=\r)/g, 'now') };
}

/** All that comes back for these bytes, on a connection that the last of them ends. */
async function exchanged(atOnce: boolean, bytes: string): Promise<string> {
  await using server = await answering(atOnce);
  const { socket, closed, text } = server.dial();
  socket.write(bytes);
  await closed;
  return text();
}

const get = (path: string, more = '', start = 'GET', version = '1.1') =>
  `${start} ${path} HTTP/${version}\r\nHost: a\r\n${more}\r\n`;
const LAST = get('/json', 'Connection: close\r\n');

describe('an answer sent at once is, byte for byte, what node:http makes of it', () => {
  test.each(Object.keys(kinds))('%s, and the connection goes on', async (path) => {
    const ordinary = await exchanged(false, get(path) + LAST);
    expect(ordinary).toContain('Connection: keep-alive');
    expect(await exchanged(true, get(path) + LAST)).toBe(ordinary);
  });

  test.each([
    ['HEAD', get('/json', '', 'HEAD')],
    ['HTTP/1.0', get('/json', '', 'GET', '1.0')],
    ['HTTP/1.0 that wants to keep the connection', get('/json', 'Connection: keep-alive\r\n', 'GET', '1.0')],
    ['Connection: close', get('/unchanged', 'Connection: close\r\n')],
    ['requests that do not wait for answers', get('/json') + get('/unchanged') + get('/two') + get('/json')],
    ['a body that nobody reads', `${get('/json', 'Content-Length: 100000\r\n', 'POST')}`],
  ])('%s', async (_, bytes) => {
    const ordinary = await exchanged(false, bytes + LAST);
    expect(ordinary).toContain('HTTP/1.1 ');
    expect(await exchanged(true, bytes + LAST)).toBe(ordinary);
  });
});

describe.each([true, false])('at once: %s', (atOnce) => {
  test('answers go out in the order of their requests, whichever is there first', async () => {
    await using server = await answering(atOnce);
    const { socket, closed, text } = server.dial();
    socket.write(get('/held/json') + get('/two') + LAST);
    await vi.waitFor(() => expect(server.held).toHaveLength(1));
    expect(text()).toBe('');
    server.held[0]?.();
    await closed;
    expect(text().match(/Link: <a>|charset|HTTP\/1.1 200/g)).toEqual([
      'HTTP/1.1 200',
      'HTTP/1.1 200',
      'Link: <a>',
      'HTTP/1.1 200',
    ]);
    expect(server.ends).toEqual([true, true, true]);
  });

  test('a caller who left is not answered, and its request ends as not answered', async () => {
    await using server = await answering(atOnce);
    const { socket } = server.dial();
    socket.write(get('/held/json'));
    await vi.waitFor(() => expect(server.held).toHaveLength(1));
    socket.resetAndDestroy();
    await vi.waitFor(() => expect(server.ends).toEqual([false]));
    server.held[0]?.();
    expect(server.ends).toEqual([false]);
  });
});

test('what was answered within a turn of the event loop is sent in a row, when all of it is answered', async () => {
  await using server = await answering(true);
  const callers = [server.dial(), server.dial(), server.dial()];
  for (const { socket } of callers) socket.write(get('/held/json'));
  await vi.waitFor(() => expect(server.held).toHaveLength(3));
  const sent = () => server.sockets.map(({ bytesWritten }) => bytesWritten > 0);
  for (const go of server.held) {
    go();
    expect(sent()).toEqual([false, false, false]);
  }
  await new Promise((resolve) => setImmediate(resolve));
  expect(sent()).toEqual([true, true, true]);
  for (const { socket } of callers) socket.destroy();
});

test('a caller who leaves between its answer and the end of the turn keeps nobody else from theirs', async () => {
  await using server = await answering(true);
  const callers = [server.dial(), server.dial()];
  for (const { socket } of callers) socket.write(get('/held/json'));
  await vi.waitFor(() => expect(server.held).toHaveLength(2));
  const [first] = server.sockets;
  for (const go of server.held) go();
  first?.destroy();
  await vi.waitFor(() => expect([...server.ends].sort()).toEqual([false, true]));
  await vi.waitFor(() =>
    expect(callers.filter(({ text }) => text().endsWith(BODY.toString('latin1')))).toHaveLength(1),
  );
  for (const { socket } of callers) socket.destroy();
});

describe('what is not plain goes the ordinary way, untouched', () => {
  const send = sendAtOnce(KEEP_ALIVE_MS);
  const outgoing = () =>
    new ServerResponse({ method: 'GET', httpVersionMajor: 1, httpVersionMinor: 1 } as IncomingMessage);

  test.each([
    [['X-A', 'a\r\nSet-Cookie: b=1']],
    [['X-A\r\nSet-Cookie: b=1\r\nX-B', 'c']],
    [['X-A', 'a\u0000']],
    [['X-A', 'a\u0130']],
    [['X A', 'a']],
    [['', 'a']],
    [['Transfer-Encoding', 'chunked']],
    [['content-length', '1']],
    [['CONNECTION', 'close']],
  ])('%j', (headers) => {
    const to = outgoing();
    to.shouldKeepAlive = true;
    expect(send?.(to, { status: 200, headers: ['X-Good', 'a', ...headers], body: BODY })).toBe(false);
    expect(to.headersSent).toBe(false);
    expect(to.writableEnded).toBe(false);
    // The same without what is odd does not.
    expect(send?.(to, { status: 200, headers: ['X-Good', 'a'], body: BODY })).toBe(true);
  });
});

describe('on a Node whose internals are not as they were', () => {
  afterEach(() => vi.restoreAllMocks());

  test('nothing is sent at once where what was prepared is not what goes out', () => {
    const { end } = ServerResponse.prototype;
    vi.spyOn(ServerResponse.prototype, 'end').mockImplementation(function (this: ServerResponse, ...args: unknown[]) {
      Object.assign(this, { _header: null });
      return end.apply(this, args as Parameters<typeof end>);
    } as typeof end);
    expect(sendAtOnce(KEEP_ALIVE_MS)).toBeNull();
  });

  test('nothing is sent at once where that throws', () => {
    Object.defineProperty(ServerResponse.prototype, '_header', {
      configurable: true,
      set: () => {
        throw new TypeError('read only');
      },
    });
    try {
      expect(sendAtOnce(KEEP_ALIVE_MS)).toBeNull();
    } finally {
      Reflect.deleteProperty(ServerResponse.prototype, '_header');
    }
  });

  test('on this one, it is', () => {
    expect(sendAtOnce(KEEP_ALIVE_MS)).not.toBeNull();
    expect(sendAtOnce(0)).not.toBeNull();
  });
});
