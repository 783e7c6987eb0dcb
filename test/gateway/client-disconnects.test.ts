import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { BILLING_KEY, configuration, eventually, PRIMARY, run, sha256 } from '../support/gateway.ts';
import { dial } from '../support/raw-socket.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

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
  // Every slot has ended: as many are held as attempts were sent, and none of them is in flight. A request whose caller left while it
  // was admitted gives its slot back a moment later.
  await eventually(async () => {
    const attempts = await gateway.metric('patchgate_upstream_requests_total', { account: 'main' });
    return (await gateway.metric('patchgate_quota_slots_in_use')) <= attempts;
  }, 'no open slot');
  expect(gateway.logText()).toBe('');
});

test('a caller that disconnects before its response is client_closed and 499 in the log and in the metrics', async () => {
  const held: Socket[] = [];
  const upstream = await rawUpstream((socket, index) => {
    if (index > 1) held.push(socket);
    else
      socket.write(
        'HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: 200\r\nContent-Length: 0\r\n\r\n',
      );
  });
  await using _closed = upstream;
  await using gateway = await run({ config: () => configuration(upstream.url) });
  const lines = [
    'GET /api/v1/flows/1 HTTP/1.1',
    'POST /api/v1/data-pool HTTP/1.1\r\nContent-Length: 0',
    // The caller leaves in the middle of its upload.
    'POST /api/v1/data-pool HTTP/1.1\r\nContent-Length: 100',
    'POST /api/v1/data-pool HTTP/1.1\r\nContent-Length: 100\r\nIdempotency-Key: a',
  ];
  for (const [index, line] of lines.entries()) {
    const caller = await dial(gateway.port);
    caller.write(`${line}\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\n\r\n`);
    if (index < 2) await eventually(() => held.length > index, 'the request arrived');
    else await eventually(async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 1, 'it began');
    caller.socket.destroy();
    await eventually(() => gateway.logs().filter((each) => each['status'] === 499).length > index, 'it ended');
  }
  const ended = gateway.logs().filter((each) => each['status'] === 499);
  expect(ended.map((each) => each['code'])).toEqual(lines.map(() => 'client_closed'));
  expect(await gateway.metric('patchgate_rejections_total', { tenant: 'billing', code: 'client_closed' })).toBe(4);
  expect(await gateway.metric('patchgate_rejections_total')).toBe(4);
  expect(await gateway.metric('patchgate_http_requests_total', { status: '499' })).toBe(4);
});
