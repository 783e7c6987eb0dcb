import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import type { HangUp } from '../../exchange.ts';
import type { Outbound } from '../../upstream/sender.ts';
import { createUndiciSender } from './sender.ts';

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
  const hangUp: HangUp = {
    get happened() {
      return happened;
    },
    onHangUp: (run) => {
      listeners.add(run);
      return () => listeners.delete(run);
    },
  };
  const leave = (): void => {
    happened = true;
    for (const run of listeners) run();
  };
  return { hangUp, leave };
}

const outbound = (origin: string, more: Partial<Outbound> = {}): Outbound => ({
  ...{ origin, method: 'POST', target: '/', headers: [], body: null, timeoutMs: 5_000, hangUp: null },
  ...more,
});

test('who leaves in the turn it came in is not sent for, has not left a byte, and its body is let go', async () => {
  await using server = await upstream();
  const sender = createUndiciSender({ clock: systemClock });
  const { hangUp, leave } = caller();
  const body = new Readable({ read() {} });
  const gone = sender.send(outbound(server.origin, { hangUp, body }));
  leave();
  expect(await gone).toMatchObject({ kind: 'failed', reason: 'hung_up', mayHaveLeft: false });
  expect(body.destroyed).toBe(true);
  // Whoever came with it is.
  expect(await sender.send(outbound(server.origin))).toMatchObject({ kind: 'answered', status: 200 });
  expect(server.requests()).toBe(1);
  await sender.close();
});

test('what undici will not send is a failure of its own request alone, of which nothing has left', async () => {
  await using server = await upstream();
  const sender = createUndiciSender({ clock: systemClock });
  const [bad, good] = await Promise.all([
    sender.send(outbound(server.origin, { headers: ['X-A', 'b\r\nc: d'] })),
    sender.send(outbound(server.origin)),
  ]);
  expect(bad).toMatchObject({ kind: 'failed', mayHaveLeft: false });
  expect(good).toMatchObject({ kind: 'answered' });
  await sender.close();
});
