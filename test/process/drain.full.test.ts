import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { BILLING_KEY, eventually, sha256 } from '../support/gateway.ts';
import { type GatewayProcess, startGateway, wasLost } from '../support/gateway-process.ts';

/** A drain that ends within the test has not waited for its timeout. */
const PATIENT = { drain: { delay: '0ms', timeout: '1h' } };
const WHOAMI = `GET /_gateway/whoami HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\n\r\n`;

/** A connection by hand; what comes is kept as text. */
async function connection(port: number) {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk;
  });
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  await once(socket, 'connect');
  return { socket, closed, text: () => text, answers: () => text.split('HTTP/1.1 ').length - 1 };
}

const drains = async ({ process }: GatewayProcess) => {
  process.child.kill('SIGTERM');
  await process.waitFor(/"msg":"draining"/);
};
const ends = async ({ process }: GatewayProcess) => {
  expect(await process.exited).toEqual({ code: 0, signal: null });
  expect(process.stdout()).toContain('"msg":"drained"');
};

/** Sends on kept connections until a response asks it to close; a request without a response is lost. */
async function keepAliveClient(url: string, told: { answered: number; closes: number; lost: string[] }) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = () =>
    new Promise<'close' | 'kept'>((resolve, reject) => {
      const sent = request(`${url}/_gateway/whoami`, { agent, headers: { 'X-API-Key': BILLING_KEY } }, (response) => {
        response.resume().on('end', () => {
          told.answered += 1;
          resolve(response.headers.connection === 'close' ? 'close' : 'kept');
        });
      });
      sent.on('error', (error) => reject(Object.assign(error, { reused: sent.reusedSocket })));
      sent.end();
    });
  try {
    for (;;) if ((await ask()) === 'close') told.closes += 1;
  } catch (error) {
    if (await wasLost(error as Error, ask)) told.lost.push((error as Error).message);
  }
  agent.destroy();
}

describe('a drain', () => {
  test('under load from kept connections answers every request, and asks each caller to go elsewhere', async () => {
    // On a busy machine a caller may be silent for a second, and the delay has to be longer than that.
    await using gateway = await startGateway({
      drain: { delay: '3s', timeout: '10s' },
      limits: { requestsPerSecond: 1_000_000 },
    });
    const told = { answered: 0, closes: 0, lost: [] as string[] };
    const clients = Array.from({ length: 16 }, () => keepAliveClient(gateway.url, told));
    await eventually(() => told.answered > 200, 'load');
    expect(told.closes).toBe(0);
    await drains(gateway);
    await Promise.all(clients);
    expect(told.lost).toEqual([]);
    expect(told.closes).toBeGreaterThan(16);
    await ends(gateway);
  });

  test('waits for a request whose first half has arrived, and answers it', async () => {
    await using gateway = await startGateway(PATIENT);
    const kept = await connection(gateway.port);
    kept.socket.write(WHOAMI);
    await eventually(() => kept.answers() === 1, 'the first response');
    kept.socket.write(WHOAMI.slice(0, 30));
    const fresh = await connection(gateway.port);
    fresh.socket.write(WHOAMI.slice(0, 30));
    // The gateway has read the halves before it reads, and answers, this request.
    expect(await gateway.status(BILLING_KEY)).toBe(200);
    await drains(gateway);
    kept.socket.write(WHOAMI.slice(30));
    fresh.socket.write(WHOAMI.slice(30));
    await Promise.all([kept.closed, fresh.closed]);
    expect([kept.answers(), fresh.answers()]).toEqual([2, 1]);
    for (const { text } of [kept, fresh]) expect(text()).toMatch(/Connection: close/i);
    await ends(gateway);
  });

  test('gives the rest of a head a second, not limits.headersTimeout', async () => {
    await using gateway = await startGateway({ ...PATIENT, limits: { headersTimeout: '5m' } });
    const kept = await connection(gateway.port);
    kept.socket.write(WHOAMI);
    await eventually(() => kept.answers() === 1, 'the first response');
    const fresh = await connection(gateway.port);
    for (const { socket } of [kept, fresh]) socket.write(WHOAMI.slice(0, 30));
    expect(await gateway.status(BILLING_KEY)).toBe(200);
    await drains(gateway);
    await Promise.all([kept.closed, fresh.closed]);
    await ends(gateway);
  });

  test('is not held up by connections that were opened in advance, or kept', async () => {
    await using gateway = await startGateway(PATIENT);
    const idle: { socket: Socket; closed: Promise<unknown> }[] = [];
    for (let i = 0; i < 5; i++) idle.push(await connection(gateway.port));
    const kept = await connection(gateway.port);
    kept.socket.write(WHOAMI);
    await eventually(() => kept.answers() === 1, 'a response');
    await drains(gateway);
    await ends(gateway);
    await Promise.all([...idle, kept].map(({ closed }) => closed));
  });

  test('ends a connection whose answer had begun before it, when that is complete', async () => {
    await using gateway = await startGateway(PATIENT);
    const slow = await connection(gateway.port);
    const path = '/api/v1/payload-metadata/1/download?bytes=50000000';
    slow.socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nX-API-Key: ${BILLING_KEY}\r\n\r\n`);
    await eventually(() => slow.answers() === 1, 'the response has begun');
    slow.socket.pause();
    await drains(gateway);
    slow.socket.resume();
    await slow.closed;
    expect(slow.text().length).toBeGreaterThan(50_000_000);
    await ends(gateway);
  });

  test('lets those who wait for a slot have it', async () => {
    const tenants = {
      billing: { keys: [{ id: 'k', sha256: sha256(BILLING_KEY) }], quota: { rate: 60, burst: 2, maxWait: '10s' } },
    };
    await using gateway = await startGateway({ drain: { delay: '0ms', timeout: '20s' }, tenants });
    // The first has gone into the start.
    const asked = [1, 2, 3].map(() => gateway.status(BILLING_KEY));
    await eventually(async () => {
      const exposition = await (await fetch(`${gateway.adminUrl}/metrics`)).text();
      return exposition.includes('patchgate_quota_waiting{account="main"} 2');
    }, 'two wait');
    await drains(gateway);
    expect(await Promise.all(asked)).toEqual([200, 200, 200]);
    await ends(gateway);
  });
});
