import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fleet } from '../support/fleet.ts';
import { BILLING_KEY, codeOf, configuration, eventually, READER_KEY, run } from '../support/gateway.ts';
import { type RedisServer, redisServer } from '../support/redis.ts';

let redis: RedisServer;
beforeAll(async () => {
  redis = await redisServer();
});
afterAll(() => redis[Symbol.asyncDispose]());

const START = '/api/v1/flows/1/start';
const start = (key: string, body = '{"payload":"x"}', more: Record<string, string> = {}) => ({
  method: 'POST',
  body,
  headers: { 'Idempotency-Key': key, 'Content-Type': 'application/json', ...more },
});
const replayed = (response: Response) => response.headers.get('idempotency-replayed');

describe('a start with an Idempotency-Key', () => {
  test('posted five times at once, over three replicas, is one start; and later its answer is given again', async () => {
    await using world = await fleet(redis, 3, {
      simulator: { switches: { answerLatency: { kind: 'fixed', ms: 100 } } },
    });
    const posted = Array.from({ length: 5 }, (_, i) => world.at(i).fetch(START, start('once')));
    const answers = await Promise.all(posted);
    expect(answers.filter((each) => each.status === 200 && replayed(each) === null)).toHaveLength(1);
    // One that comes when the first is done gets its answer.
    expect(answers.filter((each) => each.status === 409 || replayed(each) === 'true')).toHaveLength(4);
    const again = await Promise.all([0, 1, 2].map((n) => world.at(n).fetch(START, start('"once"'))));
    expect(again.map((each) => [each.status, replayed(each)])).toEqual(Array(3).fill([200, 'true']));
    const bodies = await Promise.all(again.map((each) => each.text()));
    expect(new Set(bodies).size).toBe(1);
    expect(world.simulator.arrivals()).toHaveLength(1);
    expect(await world.at(0).metric('patchgate_upstream_calls_saved_total', { by: 'replay' })).toBeGreaterThan(0);
    expect(again[0]?.headers.get('ratelimit')).toMatch(/^"tenant";r=\d+/);
  });

  test('that timed out is not started again: the repeat is told that nobody knows', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          upstreams: { core: { origin: upstream }, start: { origin: upstream, timeout: '100ms' } },
        }),
      simulator: { switches: { answerLatency: { kind: 'fixed', ms: 400 } } },
      cold: true,
    });
    const first = await gateway.fetch(START, start('slow'));
    expect([first.status, replayed(first)]).toEqual([504, null]);
    for (let i = 0; i < 3; i++) {
      const repeat = await gateway.fetch(START, start('slow'));
      expect([repeat.status, replayed(repeat), await codeOf(repeat)]).toEqual([504, 'true', 'upstream_timeout']);
    }
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test.each([
    ['before the answer', 'before', 502],
    ['in the middle of the answer', 'after', 200],
  ] as const)('whose connection broke %s is not started again', async (_name, when, status) => {
    await using gateway = await run();
    gateway.simulator.fault({ match: `POST ${START}`, times: 1, where: 'answer', fault: { kind: 'reset', when } });
    const first = await gateway.fetch(START, start('broken'));
    expect(first.status).toBe(status);
    if (when === 'after') await expect(first.text()).rejects.toThrow();
    const repeat = await gateway.fetch(START, start('broken'));
    expect([repeat.status, replayed(repeat), await codeOf(repeat)]).toEqual([504, 'true', 'upstream_timeout']);
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('whose caller has left is carried through, and its answer is there for the repeat', async () => {
    await using gateway = await run({ simulator: { switches: { answerLatency: { kind: 'fixed', ms: 150 } } } });
    const sent = request({
      ...{ host: '127.0.0.1', port: gateway.port, path: START, method: 'POST' },
      headers: { Authorization: BILLING_KEY, 'Idempotency-Key': 'left', 'Content-Type': 'application/json' },
    });
    sent.on('error', () => {});
    sent.end('{"payload":"x"}');
    await eventually(() => gateway.simulator.arrivals().length === 1, 'the start upstream');
    sent.destroy();
    let repeat = await gateway.fetch(START, start('left'));
    await eventually(async () => {
      if (repeat.status === 409) repeat = await gateway.fetch(START, start('left'));
      return repeat.status !== 409;
    }, 'the first is done');
    expect([repeat.status, replayed(repeat)]).toEqual([200, 'true']);
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('with another body, path or type is refused; with the same key of another tenant it is another one', async () => {
    await using gateway = await run({
      config: (upstream) => {
        const all = configuration(upstream) as { tenants: { reader: { allow: string[] } } };
        const reader = { ...all.tenants.reader, allow: ['* /api/v1/**'] };
        return configuration(upstream, { tenants: { ...all.tenants, reader } });
      },
    });
    await gateway.fetch(START, start('same'));
    for (const [path, init] of [
      [START, start('same', '{"payload":"y"}')],
      [`${START}?x=1`, start('same')],
      ['/api/v1/flows/2/start', start('same')],
      [START, start('same', '{"payload":"x"}', { 'Content-Type': 'text/plain' })],
      [START, { ...start('same'), method: 'PUT' }],
    ] as const) {
      const other = await gateway.fetch(path, init);
      expect([other.status, await codeOf(other)]).toEqual([422, 'idempotency_mismatch']);
    }
    expect((await gateway.fetch(`${START}/`, start('same'))).headers.get('idempotency-replayed')).toBe('true');
    const others = await gateway.fetch(START, start('same', '{"payload":"x"}', { Authorization: READER_KEY }));
    expect([others.status, replayed(others)]).toEqual([200, null]);
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });

  test('that the quota refused was not begun: the repeat is sent', async () => {
    await using gateway = await run({
      config: (upstream) => {
        const all = configuration(upstream) as { tenants: { reader: object } };
        const reader = {
          ...all.tenants.reader,
          allow: ['* /api/v1/**'],
          quota: { rate: 600, burst: 1, maxWait: '0s' },
        };
        return configuration(upstream, { tenants: { ...all.tenants, reader } });
      },
    });
    const mine = { Authorization: READER_KEY };
    await gateway.fetch(START, start('a', '{}', mine));
    expect((await gateway.fetch(START, start('b', '{}', mine))).status).toBe(429);
    const repeat = await gateway.fetch(START, start('b', '{}', { ...mine, Prefer: 'wait=5' }));
    expect([repeat.status, replayed(repeat)]).toEqual([200, null]);
  });

  test('an answer of upstream that says no is the answer, for the repeat too', async () => {
    await using gateway = await run();
    gateway.simulator.fault({
      match: `POST ${START}`,
      times: 1,
      fault: {
        kind: 'status',
        status: 422,
        body: '{"message":"no version"}',
        headers: { 'Set-Cookie': 'session=canary' },
      },
    });
    const first = await gateway.fetch(START, start('no'));
    const repeat = await gateway.fetch(START, start('no'));
    expect([first.status, repeat.status, await repeat.text()]).toEqual([422, 422, '{"message":"no version"}']);
    expect(JSON.stringify([...repeat.headers])).not.toContain('canary');
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('whose answer is larger than is kept is given out whole, and the repeat is told what it was', async () => {
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { idempotency: { maxAnswer: '10B' } }),
    });
    const first = await gateway.fetch(START, start('large'));
    expect((await first.text()).length).toBeGreaterThan(10);
    const repeat = await gateway.fetch(START, start('large'));
    const problem = (await repeat.json()) as { code: string; detail: string };
    expect([repeat.status, problem.code, replayed(repeat)]).toEqual([409, 'idempotency_conflict', 'true']);
    expect(problem.detail).toContain('answered 200');
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('is forgotten when its time is over', async () => {
    await using world = await fleet(redis, 1, { more: { idempotency: { keep: '1s' } } });
    await world.at(0).fetch(START, start('brief'));
    const [key = ''] = await redis
      .client()
      .keys('*:replay:*brief*')
      .then(() => redis.client().keys('fleet*:replay:*'));
    expect(key).not.toBe('');
    await eventually(
      async () => (await world.at(0).fetch(START, start('brief'))).headers.get('idempotency-replayed') === null,
      'it is sent anew',
    );
    expect(world.simulator.arrivals().length).toBeGreaterThanOrEqual(2);
  });

  test('with a malformed key is refused before anything is sent, and reads go by themselves', async () => {
    await using gateway = await run();
    const bad = await gateway.fetch(START, start('k'.repeat(256)));
    expect([bad.status, await codeOf(bad)]).toEqual([400, 'bad_request']);
    for (let i = 0; i < 2; i++) {
      const read = await gateway.fetch('/api/v1/flow-runs', { headers: { 'Idempotency-Key': 'read' } });
      expect([read.status, replayed(read)]).toEqual([200, null]);
    }
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });

  test('is not sent while nobody can tell whether it was: without Redis it is refused', async () => {
    await using own = await redisServer();
    await using world = await fleet(own, 1);
    await world.shared();
    await own.kill();
    const refused = await world.at(0).fetch(START, start('x', '{}', { Prefer: 'wait=10' }));
    expect([refused.status, await codeOf(refused)]).toEqual([503, 'state_unavailable']);
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(world.simulator.arrivals()).toHaveLength(0);
  });
});
