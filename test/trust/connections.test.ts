import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { respond } from '../../src/context.ts';
import { defaultProblemOptions } from '../../src/problem.ts';
import { createTrafficServer } from '../../src/server/traffic.ts';
import { BILLING_KEY, configuration, eventually, runChecked } from '../support/gateway.ts';
import { heapBytes } from '../support/heap.ts';
import { dial } from '../support/raw-socket.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;
const HEAD = `HTTP/1.1\r\nHost: x\r\n${AUTH}\r\n`;
const get = (path: string, more = '') => `GET ${path} ${HEAD}${more}\r\n`;
const patient = (upstream: string) => configuration(upstream, { limits: { headersTimeout: '300ms' } });

describe('a slow caller', () => {
  test('that drips its head is answered 400 and cut off after limits.headersTimeout, and holds up no other caller', async () => {
    await using gateway = await runChecked({ config: patient });
    using slow = await dial(gateway.port);
    slow.write('GET /api/v1/flow-runs HTTP/1.1\r\nHost: x\r\n');
    const dripping = setInterval(() => slow.write('X-A: b\r\n'), 50);
    try {
      expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
      await slow.closed();
    } finally {
      clearInterval(dripping);
    }
    expect(slow.statuses()).toEqual([400]);
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    await gateway.expectUnharmed();
  });

  test('that drips its body holds no slot, and leaves nothing behind when it goes', async () => {
    await using gateway = await runChecked();
    const slots = () => gateway.metric('patchgate_quota_slots_in_use');
    const before = await slots();
    using slow = await dial(gateway.port);
    slow.write(`POST /api/v1/flows/1/start ${HEAD}Content-Length: 1000\r\n\r\n{`);
    await eventually(async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 1, 'in flight');
    const dripping = setInterval(() => slow.write(' '), 20);
    try {
      expect(await slots()).toBe(before);
      expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
      expect(gateway.simulator.arrivals().map((each) => each.target)).toEqual(['/api/v1/flow-runs']);
    } finally {
      clearInterval(dripping);
    }
    slow.socket.resetAndDestroy();
    await gateway.expectUnharmed();
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('has five minutes for the whole of a request; who takes longer is cut off', async () => {
    const traffic = createTrafficServer({
      clock: systemClock,
      log: { debug() {}, info() {}, warn() {}, error() {} },
      limits: { headersBytes: 32_768, headersTimeoutMs: 300, idleTimeoutMs: 1_000 },
      ...{ tls: null, handshakeTimeoutMs: 300, onHandshake() {} },
      current: () => ({
        ...{
          problems: defaultProblemOptions,
          bodyBytes: 1_000,
          stallTimeoutMs: 30_000,
          clientAddress: () => '192.0.2.1',
          scheme: () => 'http' as const,
        },
        pipeline: async (context) => {
          for await (const _ of context.body!.open());
          return respond(200, [], null);
        },
        whoami: async () => respond(200, [], null),
      }),
      observer: { started() {}, finished() {} },
      tracer: null,
    });
    expect(traffic.server.requestTimeout).toBe(300_000);
    traffic.server.requestTimeout = 500;
    await new Promise<void>((resolve) => traffic.server.listen(0, '127.0.0.1', resolve));
    const { port } = traffic.server.address() as { port: number };
    using slow = await dial(port);
    slow.write(`POST / ${HEAD}Content-Length: 900\r\n\r\n{`);
    await eventually(() => traffic.inFlight() === 1, 'in flight');
    await slow.closed();
    slow.socket.destroy();
    await eventually(() => traffic.inFlight() === 0, 'nothing in flight');
    traffic.server.closeAllConnections();
    traffic.server.close();
  });

  test('that takes nothing of its response holds back the upstream, not the memory of the gateway', async () => {
    await using gateway = await runChecked();
    // Other tests ran in this process before.
    const outsideHeap = () => {
      // Without garbage.
      heapBytes();
      return process.memoryUsage().external + process.memoryUsage().arrayBuffers;
    };
    const before = outsideHeap();
    using slow = await dial(gateway.port);
    slow.socket.pause();
    slow.write(get('/api/v1/payload-metadata/1/download?bytes=300000000'));
    const sent = () => gateway.simulator.arrivals()[0]?.status ?? null;
    await eventually(() => sent() !== null, 'the download');
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect(outsideHeap() - before).toBeLessThan(50_000_000);
    slow.socket.resetAndDestroy();
    await eventually(() => gateway.simulator.arrivals()[0]!.aborted, 'abort upstream');
    await gateway.expectUnharmed();
  });
});

describe('a connection', () => {
  test('whose caller has closed its half is one whose caller left: the request is aborted upstream, and nothing stays', async () => {
    await using gateway = await runChecked();
    gateway.simulator.fault({ match: 'GET /api/v1/flow-runs', fault: { kind: 'stall', when: 'before' } });
    using half = await dial(gateway.port);
    half.write(get('/api/v1/flow-runs'));
    await eventually(() => gateway.simulator.arrivals().length === 1, 'arrival upstream');
    half.socket.end();
    await half.closed();
    await eventually(() => gateway.simulator.arrivals()[0]!.aborted, 'abort upstream');
    expect(half.received()).toBe('');
    await gateway.expectUnharmed();
  });

  test('closed in the middle of a body brings no request upstream to its end', async () => {
    await using gateway = await runChecked();
    for (const size of [100, 2_000_000]) {
      using half = await dial(gateway.port);
      half.socket.end(`POST /api/v1/flows/1/start ${HEAD}Content-Length: ${size}\r\n\r\n{"a":`);
      await half.closed();
      expect(half.statuses().every((status) => status === 400)).toBe(true);
    }
    await gateway.expectUnharmed();
    await eventually(() => gateway.simulator.arrivals().every((each) => each.finishedAt !== null), 'all is over');
    expect(gateway.simulator.arrivals().filter((each) => each.bodySha256 !== null)).toEqual([]);
  });

  test('with 100 requests at once answers them in order, each with its own answer', async () => {
    await using gateway = await runChecked();
    gateway.simulator.switches.responseLatency = { kind: 'uniform', minMs: 0, maxMs: 30 };
    using pipeline = await dial(gateway.port);
    const marks = Array.from({ length: 100 }, (_, i) => `mark-${i}`);
    pipeline.write(marks.map((mark) => get('/api/v1/flow-runs', `X-Request-Id: ${mark}\r\n`)).join(''));
    await pipeline.responses(100);
    expect([...pipeline.received().matchAll(/^x-request-id: (\S+)/gim)].map(([, mark]) => mark)).toEqual(marks);
    await gateway.expectUnharmed();
  });

  test('with 20 requests at once takes them all along when it breaks, those too whose turn to be answered had not come', async () => {
    await using gateway = await runChecked();
    gateway.simulator.fault({ match: 'GET /api/v1/**', fault: { kind: 'stall', when: 'before' } });
    using pipeline = await dial(gateway.port);
    pipeline.write(get('/api/v1/flow-runs').repeat(20));
    await eventually(() => gateway.simulator.arrivals().length === 20, 'arrivals upstream');
    pipeline.socket.resetAndDestroy();
    await eventually(() => gateway.simulator.arrivals().every((each) => each.aborted), 'all are aborted upstream');
    await gateway.expectUnharmed();
  });

  test.each([
    ['with a key', `${AUTH}\r\n`],
    ['without one', ''],
  ])('that is closed after a response leaves none of the requests behind it in flight, %s', async (_name, key) => {
    await using gateway = await runChecked();
    gateway.simulator.fault({ match: 'GET /api/v1/flow-runs', fault: { kind: 'stall', when: 'before' } });
    using pipeline = await dial(gateway.port);
    const head = `HTTP/1.1\r\nHost: x\r\n${key}`;
    // Rejected before its body was read: the response asks for the end of the connection.
    const first = `POST /api/v1/users ${head}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`;
    pipeline.write(first + `GET /api/v1/flow-runs ${head}\r\n`.repeat(20));
    await pipeline.closed();
    await gateway.expectUnharmed();
  });

  test('that carried a malformed request carries no other: what was sent behind it is not looked at', async () => {
    await using gateway = await runChecked();
    for (const first of [
      `GET /api/v1/flow-runs HTTP/1.1\r\nHost: x\r\nHost: y\r\n${AUTH}\r\n\r\n`,
      `POST /api/v1/flows/1/start HTTP/1.0\r\n${AUTH}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      `GET http://x/api/v1/flow-runs ${HEAD}\r\n`,
    ]) {
      using caller = await dial(gateway.port);
      caller.write(first + get('/api/v1/scripts'));
      await caller.closed();
      expect(caller.statuses()).toEqual([400]);
    }
    await gateway.expectUnharmed();
    expect(gateway.simulator.arrivals()).toEqual([]);
  });

  test('is one of 1,000 idle ones, and others are served; they end after limits.idleTimeout', async () => {
    await using gateway = await runChecked({
      config: (upstream) => configuration(upstream, { limits: { idleTimeout: '1s', headersTimeout: '3s' } }),
    });
    const idle = await Promise.all(Array.from({ length: 1_000 }, () => dial(gateway.port)));
    try {
      // Half of them have had a response, and are kept; the others have not sent anything yet.
      for (const kept of idle.slice(0, 500)) kept.write(get('/_gateway/whoami'));
      await Promise.all(idle.slice(0, 500).map((kept) => kept.responses(1)));
      expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
      await eventually(() => idle.every((each) => each.isClosed()), 'all have ended');
    } finally {
      for (const each of idle) each[Symbol.dispose]();
    }
    await gateway.expectUnharmed();
  });
});
