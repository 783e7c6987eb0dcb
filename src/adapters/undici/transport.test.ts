import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import type { ClientDisconnect } from '../../context.ts';
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

/** A caller, and how it leaves. */
function caller() {
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
  const leave = (): void => {
    happened = true;
    for (const run of listeners) run();
  };
  return { disconnect, leave };
}

const outbound = (origin: string, more: Partial<OutboundRequest> = {}): OutboundRequest => ({
  ...{ origin, method: 'POST', target: '/', headers: [], body: null, timeoutMs: 5_000, disconnect: null },
  ...more,
});

test('who leaves in the turn it came in is not sent for, has not left a byte, and its body is let go', async () => {
  await using server = await upstream();
  const sender = createUndiciTransport({ clock: systemClock });
  const { disconnect, leave } = caller();
  const body = new Readable({ read() {} });
  const gone = sender.send(outbound(server.origin, { disconnect, body }));
  leave();
  expect(await gone).toMatchObject({ kind: 'failed', reason: 'client_closed', mayHaveLeft: false });
  expect(body.destroyed).toBe(true);
  // Whoever came with it is.
  expect(await sender.send(outbound(server.origin))).toMatchObject({ kind: 'answered', status: 200 });
  expect(server.requests()).toBe(1);
  await sender.close();
});

test('what undici will not send is a failure of its own request alone, of which nothing has left', async () => {
  await using server = await upstream();
  const sender = createUndiciTransport({ clock: systemClock });
  const [bad, good] = await Promise.all([
    sender.send(outbound(server.origin, { headers: ['X-A', 'b\r\nc: d'] })),
    sender.send(outbound(server.origin)),
  ]);
  expect(bad).toMatchObject({ kind: 'failed', mayHaveLeft: false });
  expect(good).toMatchObject({ kind: 'answered' });
  await sender.close();
});
