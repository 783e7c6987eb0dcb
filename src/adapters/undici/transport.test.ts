import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import { type ClientDisconnect, NEVER_DISCONNECTS } from '../../context.ts';
import type { OutboundRequest } from '../../upstream/transport.ts';
import { createUndiciTransport } from './transport.ts';

async function upstream() {
  let requests = 0;
  const server = createServer((incoming, outgoing) => {
    requests += 1;
    incoming.resume().on('end', () => outgoing.end('{}'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: () => requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function client() {
  const listeners = new Set<() => void>();
  let happened = false;
  const disconnect: ClientDisconnect = {
    get happened() {
      return happened;
    },
    onDisconnect: (run) => {
      listeners.add(run);
      return () => listeners.delete(run);
    },
  };
  const close = (): void => {
    happened = true;
    for (const run of listeners) run();
  };
  return { disconnect, close };
}

const outbound = (origin: string, more: Partial<OutboundRequest> = {}): OutboundRequest => ({
  ...{ origin, method: 'POST', target: '/', headers: [], body: null, timeoutMs: 5_000, disconnect: NEVER_DISCONNECTS },
  ...more,
});

test('a client that disconnects at once has its body released and sends no byte; the next request is sent', async () => {
  await using server = await upstream();
  const transport = createUndiciTransport({ clock: systemClock });
  const { disconnect, close } = client();
  const body = new Readable({ read() {} });
  const disconnected = transport.send(outbound(server.origin, { disconnect, body }));
  close();
  expect(await disconnected).toMatchObject({ kind: 'failed', reason: 'client_closed', mayBeSent: false });
  expect(body.destroyed).toBe(true);
  expect(await transport.send(outbound(server.origin))).toMatchObject({ kind: 'response', status: 200 });
  expect(server.requests()).toBe(1);
  await transport.close();
});

test('a request that undici rejects fails alone, and no byte of it is sent', async () => {
  await using server = await upstream();
  const transport = createUndiciTransport({ clock: systemClock });
  const [bad, good] = await Promise.all([
    transport.send(outbound(server.origin, { headers: ['X-A', 'b\r\nc: d'] })),
    transport.send(outbound(server.origin)),
  ]);
  expect(bad).toMatchObject({ kind: 'failed', mayBeSent: false });
  expect(good).toMatchObject({ kind: 'response' });
  await transport.close();
});

test('a body that its reader closes ends the request at the upstream', async () => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const arrived = once(server, 'request');
  const transport = createUndiciTransport({ clock: systemClock });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const sending = transport.send(outbound(origin, { timeoutMs: 600_000 }));
  const outgoing = (await arrived)[1] as ServerResponse;
  const closed = once(outgoing, 'close');
  outgoing.writeHead(200, { 'Content-Length': 10 }).write('{');
  const sent = await sending;
  if (sent.kind !== 'response' || !(sent.body instanceof Readable)) throw new Error('no stream');
  sent.body.destroy();
  await closed;
  await transport.close();
  server.close();
});
