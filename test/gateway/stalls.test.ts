import { connect } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { BILLING_KEY, configuration, eventually, type Running, type RunOptions, run } from '../support/gateway.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { dial, type RawSocket } from '../support/raw-socket.ts';
import { plain, runTlsGateway } from '../support/tls-gateway.ts';

const MINUTE_MS = 60_000;
const download = (bytes: number) =>
  `GET /api/v1/payload-metadata/1/download?bytes=${bytes} HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\n\r\n`;
const upload = (bytes: number) =>
  `POST /api/v1/flows/1/start HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\nContent-Length: ${bytes}\r\n\r\n`;
/** The upstream's own timeouts run in real time, and must not end what is tested. */
const patient: NonNullable<RunOptions['config']> = (upstream) => ({
  ...configuration(upstream),
  upstreams: { core: { origin: upstream, timeout: '5m' }, start: { origin: upstream, timeout: '5m' } },
});

async function start(options: Pick<RunOptions, 'config'> = {}) {
  const clock = new ManualClock();
  const gateway = await run({ config: patient, clock, ...options });
  const startedAt = clock.monotonic();
  /** Moves the clock by a second. All that has arrived by then is read before. */
  const second = async (): Promise<void> => {
    expect((await gateway.fetch('/_gateway/whoami')).status).toBe(200);
    clock.advance(1_000);
  };
  return { clock, gateway, second, passedMs: () => clock.monotonic() - startedAt };
}

const cutLines = (gateway: Running) =>
  gateway.logs().filter((line) => line['internal'] === 'stalled: limits.stallTimeout');

/** Reads this many bytes and a part of a chunk more, or to the end of the connection. */
function read({ socket }: RawSocket, bytes: number): Promise<void> {
  return new Promise((resolve) => {
    let left = bytes;
    const end = (): void => {
      socket.off('data', take).off('close', end).pause();
      resolve();
    };
    const take = (piece: string): void => {
      left -= piece.length;
      if (left <= 0) end();
    };
    socket.on('data', take).on('close', end).resume();
  });
}

describe('a response', () => {
  test('that is not read is cut after limits.stallTimeout, and its permit is free; the log says why', async () => {
    const { gateway, second, passedMs } = await start();
    await using _ = gateway;
    using slow = await dial(gateway.port);
    slow.socket.pause();
    slow.write(download(300_000_000));
    await eventually(() => gateway.simulator.arrivals().length === 1, 'the download is sent');
    const inFlight = () => gateway.metric('patchgate_upstream_in_flight', { upstream: 'core' });
    expect(await inFlight()).toBe(1);
    while ((await inFlight()) === 1) await second();
    expect(passedMs()).toBeGreaterThanOrEqual(30_000);
    await eventually(() => gateway.simulator.arrivals()[0]!.aborted, 'abort upstream');
    expect(cutLines(gateway)).toHaveLength(1);
    expect(cutLines(gateway)[0]).toMatchObject({ aborted: true, status: 200 });
  });

  test.each([
    ['streamed', patient],
    [
      'from the cache',
      (upstream: string) => ({
        ...patient(upstream),
        cache: { memory: '256MiB', maxEntry: '128MiB', rules: [{ match: 'GET /api/v1/**', ttl: '1h' }] },
        limits: { bufferedTotal: '512MiB' },
      }),
    ],
  ])('that is read slowly, but read, goes on: %s', async (_name, config) => {
    const { gateway, second, passedMs } = await start({ config });
    await using _ = gateway;
    const bytes = 120_000_000;
    await (await gateway.fetch(`/api/v1/payload-metadata/1/download?bytes=${bytes}`)).arrayBuffer();
    using slow = await dial(gateway.port);
    slow.socket.pause();
    slow.write(download(bytes));
    while (passedMs() < MINUTE_MS) {
      await read(slow, 1_500_000);
      await second();
    }
    slow.socket.resume();
    await eventually(() => slow.received().length > bytes, 'the whole response');
    expect(cutLines(gateway)).toEqual([]);
  });

  test('that waits for the upstream is not the caller’s fault', async () => {
    const { gateway, second } = await start();
    await using _ = gateway;
    gateway.simulator.fault({ match: 'GET /api/v1/flow-runs', fault: { kind: 'stall', when: 'before' } });
    using caller = await dial(gateway.port);
    caller.write(`GET /api/v1/flow-runs HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\n\r\n`);
    await eventually(() => gateway.simulator.arrivals().length === 1, 'arrival upstream');
    for (let passed = 0; passed < 100; passed++) await second();
    expect(caller.isClosed()).toBe(false);
  });

  test('over TLS that is not read is cut as well', async () => {
    await using gate = await runTlsGateway((upstream) => plain(upstream, { limits: { stallTimeout: '1s' } }));
    const socket = connect({ host: '127.0.0.1', port: gate.traffic, ca: gate.ca.cert });
    socket.on('error', () => {});
    await new Promise<void>((resolve) => socket.once('secureConnect', resolve));
    socket.pause().write(download(300_000_000));
    await eventually(() => gate.simulator.arrivals()[0]?.aborted === true, 'abort upstream');
    socket.destroy();
    expect(gate.logs().some((line) => line['internal'] === 'stalled: limits.stallTimeout')).toBe(true);
  });
});

describe('an upload', () => {
  test('without progress is cut after limits.stallTimeout', async () => {
    const { gateway, second, passedMs } = await start();
    await using _ = gateway;
    using slow = await dial(gateway.port);
    slow.write(`${upload(5_000_000)}{`);
    while (!slow.isClosed()) await second();
    expect(passedMs()).toBeGreaterThanOrEqual(30_000);
    await eventually(() => cutLines(gateway).length === 1, 'the line of the request');
  });

  test('below 1 KiB/s is cut after a minute, although it makes progress', async () => {
    const { gateway, second, passedMs } = await start();
    await using _ = gateway;
    using slow = await dial(gateway.port);
    slow.write(`${upload(5_000_000)}{`);
    while (!slow.isClosed() && passedMs() < 3 * MINUTE_MS) {
      slow.write('x'.repeat(500));
      await second();
    }
    expect(passedMs()).toBeGreaterThanOrEqual(MINUTE_MS);
    expect(passedMs()).toBeLessThan(2 * MINUTE_MS);
  });

  test('above that goes on', async () => {
    const { gateway, second, passedMs } = await start();
    await using _ = gateway;
    using slow = await dial(gateway.port);
    slow.write(upload(150 * 2_000));
    for (let sent = 0; sent < 150; sent++) {
      slow.write('x'.repeat(2_000));
      await second();
    }
    await slow.responses(1);
    expect(slow.statuses()).toEqual([200]);
    expect(passedMs()).toBeGreaterThanOrEqual(2 * MINUTE_MS);
  });
});
