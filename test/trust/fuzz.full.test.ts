import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { loadSettings, renderProblems } from '../../src/config/load.ts';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { HTTP_WORDS, REDIS_WORDS, YAML_WORDS } from '../support/fuzz-words.ts';
import { BILLING_KEY, type Config, eventually, sha256 } from '../support/gateway.ts';
import { type GatewayProcess, startGateway } from '../support/gateway-process.ts';
import { mutated, mutations } from '../support/mutations.ts';
import { dial } from '../support/raw-socket.ts';
import { rawUpstream } from '../support/raw-upstream.ts';
import { redisServer, until } from '../support/redis.ts';
import { redisProxy } from '../support/redis-proxy.ts';

/** By hand: `FUZZ_SEED=7 FUZZ_MS=300000 node scripts/test.mjs full test/trust/fuzz.full.test.ts`. A failure names seed and path. */
const seed = Number(process.env['FUZZ_SEED'] ?? 20261129);
const timeMs = Number(process.env['FUZZ_MS'] ?? 8_000);
const bounded = { seed, numRuns: 1_000_000, interruptAfterTimeLimit: timeMs, markInterruptAsFailure: false };
const TIMEOUT_MS = timeMs + 60_000;

const OPEN: Config = {
  accounts: {
    main: {
      quota: { limit: 1_000_000, ceiling: 900_000, burst: 900_000 },
      credentials: [{ id: 'p', apiKey: FAKE_PRIMARY_KEY }],
    },
  },
  limits: { requestsPerSecond: 1_000_000, failedAuth: 1_000_000 },
  tenants: {
    billing: {
      keys: [{ id: 'k', sha256: sha256(BILLING_KEY) }],
      quota: { rate: 900_000, burst: 900_000, maxWait: '1s' },
    },
  },
};

/** A run that tried next to nothing proves nothing. */
const ran = (times: number): void => {
  expect(times).toBeGreaterThan(timeMs / 1_000);
};

/** It lives, has nothing left in flight, has had no fault of its own, and says nothing outside of its log. */
async function expectUnharmed({ process, adminUrl }: GatewayProcess): Promise<void> {
  const inFlight = async () =>
    /^patchgate_http_requests_in_flight (\d+)$/m.exec(await (await fetch(`${adminUrl}/metrics`)).text())?.[1];
  await eventually(async () => (await inFlight()) === '0', 'none in flight');
  process.child.kill('SIGINT');
  expect([await process.exited, process.stderr()]).toEqual([{ code: 0, signal: null }, '']);
  const errors = process
    .stdout()
    .split('\n')
    .filter((line) => line.includes('"level":"error"'));
  expect(errors).toEqual([]);
}

const AUTH = `X-API-Key: ${BILLING_KEY}`;
const REQUESTS = [
  `GET /api/v1/flows?page=1 HTTP/1.1\r\nHost: a\r\n${AUTH}\r\nAccept: application/json\r\n\r\n`,
  `POST /api/v1/flow-runs HTTP/1.1\r\nHost: a\r\n${AUTH}\r\nContent-Type: application/json\r\nIdempotency-Key: k-1\r\nContent-Length: 7\r\n\r\n{"a":1}`,
  `PUT /api/v1/data-pool HTTP/1.1\r\nHost: a\r\n${AUTH}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3;x=y\r\n{"a\r\n4\r\n":1}\r\n0\r\nTrailer-A: b\r\n\r\n`,
  `HEAD /api/v1/flows/1 HTTP/1.1\r\nHost: a\r\n${AUTH}\r\nCache-Control: no-cache, max-age=0\r\nIf-None-Match: "a", W/"b"\r\nRange: bytes=0-1\r\n\r\n`,
  `GET /_gateway/whoami HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${BILLING_KEY}\r\nPrefer: wait=3, respond-async\r\nPriority: u=1, i\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for="[::1]"\r\n\r\n`,
  `OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n`,
];

describe('a running gateway', () => {
  test('has a response or an end for any bytes on its traffic port and its admin port', {
    timeout: TIMEOUT_MS,
  }, async () => {
    await using running = await startGateway(OPEN, { simulator: { switches: { limit: 1_000_000 } } });
    const adminPort = Number(new URL(running.adminUrl).port);
    const sent = fc.tuple(
      fc.array(fc.constantFrom(...REQUESTS), { minLength: 1, maxLength: 3 }),
      mutations(HTTP_WORDS),
      fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 4 }),
      fc.boolean(),
    );
    let turn = 0;
    await fc.assert(
      fc.asyncProperty(sent, async ([requests, changes, pieces, admin]) => {
        turn += 1;
        running.simulator.reset();
        using caller = await dial(admin ? adminPort : running.port);
        let rest = Buffer.from(mutated(requests.join(''), changes), 'latin1');
        for (const piece of pieces) {
          caller.socket.write(rest.subarray(0, piece));
          rest = rest.subarray(piece);
        }
        caller.socket.write(rest);
        expect(await running.status(BILLING_KEY)).toBe(200);
        const statuses = caller.statuses().filter((status) => status === 500 || status < 100 || status > 599);
        expect(statuses).toEqual([]);
        for (const { headers } of running.simulator.arrivals()) {
          const credentials = headers.filter((_, i) =>
            /^(?:authorization|x[-_]api[-_]key)$/i.test(headers[i - 1] ?? ''),
          );
          expect(credentials).toEqual([FAKE_PRIMARY_KEY]);
        }
      }),
      { ...bounded },
    );
    ran(turn);
    await expectUnharmed(running);
  });

  test('gives no caller the response to another, whatever bytes the upstream sends', {
    timeout: TIMEOUT_MS,
  }, async () => {
    let response = (mark: string): string => `HTTP/1.1 200 OK\r\nContent-Length: ${mark.length}\r\n\r\n${mark}`;
    await using upstream = await rawUpstream((socket) => {
      const mark = /mark=([\w-]+)/.exec(upstream.requests().at(-1) ?? '')?.[1] ?? 'none';
      socket.end(Buffer.from(response(mark), 'latin1'));
    });
    await using running = await startGateway({
      ...OPEN,
      upstreams: { core: { origin: upstream.url, timeout: '2s', retries: { max: 0 }, breaker: { enabled: false } } },
      routes: [{ match: '* /**', upstream: 'core', rewriteLinks: true }],
      cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '1m', staleIfError: '1m' }] },
    });
    const RESPONSES = [
      (mark: string) =>
        `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${mark.length + 4}\r\nETag: "a"\r\n\r\n["${mark}"]`,
      (mark: string) =>
        `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nVary: Accept\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n${mark.length.toString(16)}\r\n${mark}\r\n0\r\nX-T: y\r\n\r\n`,
      (mark: string) =>
        `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nX-A: b\r\nConnection: close\r\n\r\n${mark}`,
      (_: string) => 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 10\r\n\r\n',
      (_: string) =>
        'HTTP/1.0 301 Moved\r\nLocation: http://127.0.0.1/x?page=2\r\nLink: <http://127.0.0.1/y>; rel=next\r\n\r\n',
    ];
    let turn = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: RESPONSES.length - 1 }),
        // A limit that it reports would end the test: the gateway would send nothing more.
        mutations(HTTP_WORDS.filter((word) => !/^(?:X-RateLimit|Retry-After)/.test(word))),
        fc.boolean(),
        async (which, changes, cached) => {
          turn += 1;
          const mark = `mark-of-${turn}-`;
          response = (own) => mutated((RESPONSES[which] as (mark: string) => string)(own), changes);
          using caller = await dial(running.port);
          const path = cached ? '/api/v1/flows/1' : '/api/v1/flow-runs/1';
          caller.write(`GET ${path}?mark=${mark} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${AUTH}\r\n\r\n`);
          await caller.closed();
          const others = [...caller.received().matchAll(/mark-of-(\d+)-/g)].filter(
            ([, number]) => Number(number) !== turn,
          );
          expect(others).toEqual([]);
          expect(caller.statuses().filter((status) => status === 500)).toEqual([]);
          expect(caller.received()).not.toContain(FAKE_PRIMARY_KEY);
        },
      ),
      { ...bounded },
    );
    expect(upstream.requests().length).toBeGreaterThan(turn / 4);
    ran(turn);
    await expectUnharmed(running);
  });

  test('recovers from any reply of Redis', { timeout: TIMEOUT_MS }, async () => {
    await using redis = await redisServer();
    await using proxy = await redisProxy(redis.port);
    await using running = await startGateway(
      { ...OPEN, redis: { url: proxy.url, timeout: '200ms' } },
      { simulator: { switches: { limit: 1_000_000 } } },
    );
    /** The status, and the code of a rejection. */
    const call = async (path: string, init: RequestInit = {}) => {
      const headers = { 'X-API-Key': BILLING_KEY, ...(init.headers as Record<string, string>) };
      const response = await fetch(`${running.url}${path}`, { ...init, headers });
      const text = await response.text();
      return response.ok ? 'ok' : `${response.status} ${/"code":"(\w+)"/.exec(text)?.[1]}`;
    };
    let turn = 0;
    const some = fc.tuple(mutations(REDIS_WORDS, 2), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 6 }));
    await fc.assert(
      fc.asyncProperty(some, async ([changes, altered, skipped]) => {
        turn += 1;
        let left = altered;
        let before = skipped;
        proxy.alter((reply) => {
          if (before-- > 0 || left-- <= 0) return reply;
          return mutated(reply, changes);
        });
        const statuses = await Promise.all([
          call('/api/v1/flow-runs/1'),
          call(`/api/v1/flows/${1 + (turn % 5)}`),
          call('/api/v1/flows/1/start', { method: 'POST', body: '{}', headers: { 'Idempotency-Key': `key-${turn}` } }),
          call('/api/v1/scripts'),
        ]);
        proxy.alter(null);
        expect(statuses.filter((status) => !FROM_REDIS.test(status))).toEqual([]);
        const seen: string[] = [];
        await until(
          'all is as before',
          async () => {
            const again = await call('/api/v1/flows/1/start', {
              method: 'POST',
              body: '{}',
              headers: { 'Idempotency-Key': `again-${turn}-${Math.random()}` },
            });
            seen.push(again);
            return again === 'ok';
          },
          20_000,
        ).catch((error: Error) => {
          throw new Error(`${error.message}: ${seen.join(', ')}`);
        });
      }),
      { ...bounded },
    );
    ran(turn * 4);
    await expectUnharmed(running);
  });
});

/** After an altered reply: the state is out of reach, another request has the key, or its outcome is said to be unknown. */
const FROM_REDIS =
  /^(?:ok|409 idempotency_\w+|422 idempotency_\w+|429 \w+|503 state_unavailable|504 upstream_timeout)$/;

const CANARY = 'Canary-in-a-file-9Zk7';
const DOCUMENTS = [
  `listen: { traffic: { port: 8080 }, admin: { token: "\${A}" } }\naccounts:\n  main:\n    quota: { limit: 240, ceiling: 235 }\n    credentials:\n      - { id: p, apiKey: "\${file:a}" }\nupstreams: { core: { timeout: 30s } }\nroutes:\n  - { match: "GET /a/**", upstream: core }\ncache:\n  rules:\n    - { match: "GET /b/**", ttl: 30s, tags: [x] }\ntenants:\n  one: &one\n    keys: [{ id: k, sha256: "${'a'.repeat(64)}", expires: 2027-05-31T00:00:00Z }]\n    allow: ["GET /a/**"]\n    quota: { rate: 60, maxWait: 5s }\n`,
  JSON.stringify(
    {
      accounts: {
        main: { credentials: [{ id: 'p', login: { url: 'https://h/x', username: 'u', password: '${file:a}' } }] },
      },
      redis: { url: 'redis://h', password: '${A}' },
      tenants: { a: {} },
    },
    null,
    1,
  ),
];

test('any document is loaded or refused with its line, and nothing inserted is in the message', {
  timeout: TIMEOUT_MS,
}, async () => {
  let turn = 0;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...DOCUMENTS), mutations(YAML_WORDS, 6), async (document, changes) => {
      turn += 1;
      const text = mutated(document, changes);
      const readFile = async (path: string) => (path.endsWith('x.yaml') ? text : CANARY);
      const loaded = await loadSettings({ path: '/etc/x.yaml', env: { A: CANARY }, readFile });
      if (loaded.ok) return;
      const shown = renderProblems(loaded.problems);
      expect(shown).not.toContain(CANARY);
      for (const { file, line, path, message } of loaded.problems) {
        const ofTheWhole = path === '' && /^(?:is empty|must be a map of options)$/.test(message);
        if (file.endsWith('x.yaml') && !ofTheWhole) expect([path, message, line]).not.toContain(null);
      }
    }),
    { ...bounded },
  );
  ran(turn);
});
