import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { expect, test, vi } from 'vitest';
import { type RequestContext, respond } from '../context.ts';
import { writeResponse } from './active-requests.ts';

/** A server whose answers wait for `held[n]()`; `ends` says of each whether it was written in full. */
async function answering() {
  const held: (() => void)[] = [];
  const ends: boolean[] = [];
  const server = createServer((incoming, outgoing) => {
    const context = { method: incoming.method, headers: incoming.headers, requestId: 'r-1' } as RequestContext;
    outgoing.on('close', () => ends.push(outgoing.writableFinished));
    const body = Buffer.from(JSON.stringify({ path: incoming.url }));
    held.push(() => writeResponse({ incoming, outgoing, context }, respond(200, [], body), incoming.url === '/last'));
  });
  const accepted: Socket[] = [];
  server.on('connection', (connection) => accepted.push(connection));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  let text = '';
  socket
    .on('error', () => {})
    .on('data', (chunk) => {
      text += chunk;
    });
  return {
    ...{ held, ends, socket, accepted },
    text: () => text,
    async [Symbol.asyncDispose]() {
      socket.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

test('answers leave in the order of their requests, whichever is ready first', async () => {
  await using server = await answering();
  server.socket.write(get('/first') + get('/last'));
  await vi.waitFor(() => expect(server.held).toHaveLength(2));
  server.held[1]?.();
  expect(server.text()).toBe('');
  server.held[0]?.();
  await vi.waitFor(() => expect(server.ends).toEqual([true, true]));
  expect(server.text().match(/\/first|\/last/g)).toEqual(['/first', '/last']);
});

test('a caller that disconnected gets no response, and its request does not count as answered', async () => {
  await using server = await answering();
  server.socket.write(get('/first'));
  await vi.waitFor(() => expect(server.held).toHaveLength(1));
  server.socket.resetAndDestroy();
  await vi.waitFor(() => expect(server.ends).toEqual([false]));
  server.held[0]?.();
  expect(server.ends).toEqual([false]);
});

test('a caller that disconnects before the end of the turn gets no response, and its request does not count as answered', async () => {
  await using server = await answering();
  server.socket.write(get('/first'));
  await vi.waitFor(() => expect(server.held).toHaveLength(1));
  server.held[0]?.();
  server.accepted[0]?.destroy();
  await vi.waitFor(() => expect(server.ends).toEqual([false]));
});
