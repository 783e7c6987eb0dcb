import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { rawRequest, sendRaw } from '../../test/support/raw-http.ts';
import { systemClock } from '../clock.ts';
import { type FinishedRequest, type Handler, type RequestContext, respond } from '../context.ts';
import { defaultProblemOptions } from '../problem.ts';
import { createTrafficServer } from './traffic.ts';

const echo =
  (name: string): Handler<RequestContext> =>
  async ({ method, target }) =>
    respond(200, [], Buffer.from(`${name} ${method} ${target}`));

/** A traffic port whose routes say who they are. */
async function listening(pipeline: Handler<RequestContext> = echo('pipeline')) {
  const finished: FinishedRequest[] = [];
  const errors: object[] = [];
  const traffic = createTrafficServer({
    clock: systemClock,
    log: { debug() {}, info() {}, warn() {}, error: (fields) => void errors.push(fields) },
    limits: { headersBytes: 32_768, headersTimeoutMs: 300, idleTimeoutMs: 1_000 },
    ...{ tls: null, handshakeTimeoutMs: 300, onHandshake() {} },
    current: () => ({
      problems: defaultProblemOptions,
      ...{ stallTimeoutMs: 30_000, bodyBytes: 1_000, clientAddress: () => '192.0.2.1', scheme: () => 'http' as const },
      ...{ pipeline, whoami: echo('whoami') },
    }),
    observer: { started() {}, finished: (request) => void finished.push(request) },
    tracer: null,
  });
  traffic.server.listen(0, '127.0.0.1');
  await once(traffic.server, 'listening');
  const { port } = traffic.server.address() as AddressInfo;
  return {
    ...{ finished, errors, port },
    ask: (line: string, headers: string[] = []) => sendRaw(port, rawRequest(line, headers)),
    async [Symbol.asyncDispose]() {
      traffic.destroyConnections();
      traffic.server.close();
      await once(traffic.server, 'close');
    },
  };
}

describe('a request on the traffic port', () => {
  test.each(['GET /_gateway/whoami', 'GET /_gateway/whoami?a=b'])('is answered by its route: %s', async (line) => {
    await using port = await listening();
    expect((await port.ask(line)).body).toBe(`whoami ${line}`);
  });

  test.each([
    'GET /',
    'GET /_gateway/whoami/',
    'GET /_gateway/whoam%69',
    'GET /_gateway/./whoami',
    'GET /a/../_gateway/whoami',
    'GET //_gateway/whoami',
    'POST /_gateway/whoami',
    'GET /a/%2e%2e/b?c=%20&d=[]{}|"',
    'PROPFIND /a',
  ])('is matched and passed on byte for byte, as the pipeline’s: %s', async (line) => {
    await using port = await listening();
    expect((await port.ask(line)).body).toBe(`pipeline ${line}`);
  });

  test.each([
    ['OPTIONS *', 'bad_request'],
    ['GET http://x/_gateway/whoami', 'bad_request'],
    ['TRACE /a', 'bad_request'],
    ['GET /a\\b', 'path_not_canonical'],
    ['GET /_gateway\\whoami', 'path_not_canonical'],
  ])('that Hono’s adapter cannot represent is rejected in the gateway’s words, and logged: %s', async (line, code) => {
    await using port = await listening();
    const { status, headers, body } = await port.ask(line);
    expect([status, headers['content-type'], JSON.parse(body).code]).toEqual([400, 'application/problem+json', code]);
    expect(headers['x-request-id']).toBe(JSON.parse(body).requestId);
    expect(port.finished.map((request) => [request.status, request.code])).toEqual([[400, code]]);
  });

  test('that fails is answered with 500, and the error is logged', async () => {
    await using port = await listening(() => Promise.reject(new Error('a fault of ours')));
    const { status, body } = await port.ask('GET /');
    expect([status, JSON.parse(body).code]).toEqual([500, 'internal']);
    expect(body).not.toContain('a fault of ours');
    expect(port.errors).toHaveLength(1);
  });

  test('that fails with something that is no error is answered with 500 too', async () => {
    await using port = await listening(() => Promise.reject('a text'));
    expect((await port.ask('GET /')).status).toBe(500);
    expect(port.errors).toHaveLength(1);
  });

  test.each([0, 1, 256, 16_384, 16_385, 100_000])(
    'has the body of its response byte for byte: %i bytes',
    async (size) => {
      const bytes = Buffer.from(Array.from({ length: size }, (_, i) => i % 256));
      await using port = await listening(async () => respond(200, ['X-Note', 'caf\u00e9'], bytes));
      const response = await fetch(`http://127.0.0.1:${port.port}/`);
      expect(Buffer.from(await response.arrayBuffer()).equals(bytes)).toBe(true);
      expect([response.headers.get('content-length'), response.headers.get('x-note')]).toEqual([
        `${size}`,
        'caf\u00e9',
      ]);
      await expect.poll(() => port.finished.map((request) => request.bytes)).toEqual([size]);
    },
  );

  test('that is rejected is reported with the size of the problem document', async () => {
    await using port = await listening();
    const { body } = await port.ask('TRACE /');
    expect(port.finished.map((request) => request.bytes)).toEqual([Buffer.byteLength(body)]);
  });
});
