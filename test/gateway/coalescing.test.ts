import type { Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { BILLING_KEY, configuration, eventually, run, sha256 } from '../support/gateway.ts';
import { rawUpstream } from '../support/raw-upstream.ts';

const OTHER_KEY = 'pgk_other_fake-key-for-tests';
const response = (status: number, fields = '') =>
  `HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\nX-RateLimit-Limit: 240\r\nX-RateLimit-Remaining: 200\r\n${fields}Content-Length: 2\r\n\r\n{}`;

/** An upstream that answers a request with `X-Break` as told; others with 200. `hold` keeps all of them waiting until `release`. */
async function start(broken: string) {
  const held: (() => void)[] = [];
  let holding = false;
  const upstream = await rawUpstream((socket: Socket, index) => {
    const isBroken = /\r\nx-break:/i.test(upstream.requests()[index - 1] ?? '');
    const answer = () => void socket.write(isBroken ? broken : response(200));
    if (holding) held.push(answer);
    else answer();
  });
  const quota = { burst: 200, maxWait: '0s' };
  const gateway = await run({
    config: () =>
      configuration(upstream.url, {
        upstreams: {
          core: { origin: upstream.url, retries: { max: 0 }, breaker: { enabled: false } },
          start: { origin: upstream.url },
        },
        cache: { rules: [{ match: 'GET /api/v1/**', ttl: '1h' }] },
        tenants: {
          billing: { keys: [{ id: 'k', sha256: sha256(BILLING_KEY) }], quota },
          other: { keys: [{ id: 'k', sha256: sha256(OTHER_KEY) }], quota },
        },
      }),
  });
  const before = upstream.requests().length;
  const ask = async (headers: Record<string, string> = {}) => {
    const answer = await gateway.fetch('/api/v1/flows/1', { headers });
    await answer.text();
    return answer.status;
  };
  return {
    gateway,
    ask,
    sent: () => upstream.requests().length - before,
    readers: (count: number, headers: Record<string, string> = {}) =>
      Promise.all(Array.from({ length: count }, () => ask(headers))),
    hold: () => {
      holding = true;
    },
    release: () => {
      holding = false;
      for (const answer of held.splice(0)) answer();
    },
    waiting: () => held.length,
    inFlight: () => gateway.metric('patchgate_http_requests_in_flight'),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

const BROKEN = [
  ['404', response(404)],
  ['403', response(403)],
  ['302', response(302, 'Location: /x\r\n')],
  ['500', response(500)],
  ['503', response(503)],
] as const;

describe('a response that only one caller gets, because of a field that no key contains', () => {
  test.each(BROKEN)('does not end coalescing for those after it: %s', async (_name, broken) => {
    await using it = await start(broken);
    await it.ask({ 'X-Break': '1' });
    it.hold();
    const readers = it.readers(40);
    await eventually(async () => (await it.inFlight()) === 40, 'all have arrived');
    await eventually(() => it.waiting() === 1, 'one of them was sent');
    it.release();
    expect(await readers).toEqual(Array(40).fill(200));
    expect(it.sent()).toBe(2);
  });

  test.each(BROKEN)('does not make those who waited for it fetch one each: %s', async (_name, broken) => {
    await using it = await start(broken);
    it.hold();
    const first = it.ask({ 'X-Break': '1' });
    await eventually(() => it.waiting() === 1, 'it was sent');
    const readers = it.readers(40);
    await eventually(async () => (await it.inFlight()) === 41, 'all have arrived');
    it.release();
    expect(await first).toBe(Number(broken.slice(9, 12)));
    expect(await readers).toEqual(Array(40).fill(200));
    expect(it.sent()).toBe(2);
  });

  test('does not end coalescing for another tenant, even if it cannot be shared', async () => {
    await using it = await start(response(200, 'Vary: *\r\n'));
    await it.ask({ 'X-Break': '1' });
    it.hold();
    const readers = it.readers(40, { Authorization: OTHER_KEY });
    await eventually(async () => (await it.inFlight()) === 40, 'all have arrived');
    await eventually(() => it.waiting() === 1, 'one of them was sent');
    it.release();
    expect(await readers).toEqual(Array(40).fill(200));
    expect(it.sent()).toBe(2);
  });

  test('is fetched by each of them where it is the response to all', async () => {
    await using it = await start(response(404));
    expect(await it.readers(10, { 'X-Break': '1' })).toEqual(Array(10).fill(404));
    expect(it.sent()).toBe(10);
  });
});
