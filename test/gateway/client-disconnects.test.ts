import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { BILLING_KEY, configuration, eventually, PRIMARY, run, sha256 } from '../support/gateway.ts';

const PATHS = [
  '/api/v1/flow-runs',
  '/api/v1/payload-metadata/1/download?bytes=3000000',
  '/api/v1/flows',
  '/api/v1/scripts',
];

/** A client that disconnects at some moment between its first byte and the end of the response. */
function disconnectEarly(port: number, index: number): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const disconnect = () => (index % 2 === 0 ? socket.destroy() : socket.resetAndDestroy());
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    const head = `HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\n`;
    if (index % 5 === 4) socket.write(`POST /api/v1/data-pool ${head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`);
    else socket.write(`GET ${PATHS[index % PATHS.length]} ${head}\r\n`);
    if (index % 3 === 0) socket.once('data', disconnect);
    setTimeout(disconnect, index % 11);
  });
}

test('1,500 clients that disconnect at any moment leave no request in flight, no open slot and no crash', async () => {
  const quota = { limit: 100_000, ceiling: 90_000, burst: 90_000 };
  await using gateway = await run({
    simulator: { switches: { limit: 100_000 } },
    config: (upstream) =>
      configuration(upstream, {
        accounts: { main: { quota, credentials: [PRIMARY] } },
        tenants: {
          billing: { keys: [{ id: 'k', sha256: sha256(BILLING_KEY) }], quota: { rate: 90_000, burst: 90_000 } },
        },
        log: { level: 'error' },
      }),
  });
  let index = 0;
  await Promise.all(
    Array.from({ length: 30 }, async () => {
      while (index < 1_500) await disconnectEarly(gateway.port, index++);
    }),
  );
  await eventually(async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 0, 'nothing in flight');
  expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
  // Every slot has ended: as many are held as attempts were sent, and none of them is in flight.
  const attempts = await gateway.metric('patchgate_upstream_requests_total', { account: 'main' });
  expect(await gateway.metric('patchgate_quota_slots_in_use')).toBeLessThanOrEqual(attempts);
  expect(gateway.logText()).toBe('');
});
