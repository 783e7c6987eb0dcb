import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { BILLING_KEY, configuration, PRIMARY, type Running, run, sha256 } from '../support/gateway.ts';
import { pathParsers } from '../support/path-parsers.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

/** A failure names seed and path. */
const SEEDS = [20261126, 7, 4711];
/** By suite: vitest.config.ts. */
const numRuns = process.env['EFFORT'] === 'full' ? 1_000 : 150;
const TIMEOUT_MS = 30_000 + numRuns * 60;
const AUTH = `Authorization: Bearer ${BILLING_KEY}`;
const MAY = ['api', 'v1', 'flows'];

/** No quota and no cache between a request and the upstream; everything has a route, so that permission alone decides. */
function open(): Promise<Running> {
  const quota = { limit: 1_000_000, ceiling: 900_000, burst: 900_000 };
  const keys = [{ id: 'k', sha256: sha256(BILLING_KEY) }];
  return run({
    simulator: { switches: { limit: 1_000_000 }, control: false },
    config: (upstream) =>
      configuration(upstream, {
        accounts: { main: { quota, credentials: [PRIMARY] } },
        routes: [{ match: '* /**', upstream: 'core' }],
        cache: { memory: '0B' },
        limits: { requestsPerSecond: 1_000_000 },
        log: { level: 'error' },
        tenants: { billing: { keys, allow: ['* /api/v1/flows/**'], quota: { rate: 900_000, burst: 900_000 } } },
      }),
  });
}

const PIECES = [
  ...[
    '/',
    '/',
    '/',
    '//',
    '\\',
    '.',
    '..',
    '...',
    '/../',
    '/./',
    '%2e',
    '%2E',
    '%2e%2e',
    '.%2e',
    '%252e',
    '%25',
    '%2525',
  ],
  ...[
    '%2f',
    '%2F',
    '%252f',
    '%5c',
    '%5C',
    '%255c',
    ';',
    '%3b',
    '..;',
    ';/..',
    ';a=b',
    '%00',
    '%0a',
    '%0d%0a',
    '%09',
    '%20',
    '+',
  ],
  ...[
    '%7f',
    '%80',
    '%c0%ae',
    '%c0%af',
    '%e0%80%ae',
    '%ef%bc%8e',
    '%ef%bc%8f',
    '%C3%A9',
    '\xe9',
    '\xff',
    '%',
    '%z',
    '%2',
    '%u002e',
  ],
  ...[
    'api',
    'v1',
    'flows',
    'users',
    'login',
    'manage',
    'companies',
    'API',
    'Flows',
    'f%6cows',
    '9',
    '~',
    '@',
    ':',
    '*',
    '|',
    '"',
    '<',
  ],
  ...['?', '?a=/../', '#', '&', '=', '_method', '%5F', '[', ']', '{', '^', '`', "'", '$', '!'],
];
const target = fc
  .tuple(
    fc.constantFrom('/api/v1/flows', '/api/v1/flows/', '/api/v1/flows', '/api/v1', '/', ''),
    fc.array(
      fc.oneof(
        { weight: 6, arbitrary: fc.constantFrom(...PIECES) },
        { weight: 1, arbitrary: fc.string({ maxLength: 3 }) },
      ),
      {
        maxLength: 7,
      },
    ),
  )
  .map(([front, pieces]) => `${front}${pieces.join('')}`.replace(/[\s\0]|[^\0-\xff]/g, '') || '/');

describe('what the permission check saw is what upstream got, for every target', () => {
  test.each(SEEDS)('seed %i', { timeout: TIMEOUT_MS }, async (seed) => {
    await using gateway = await open();
    const seen = { arrived: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('GET', 'PUT', 'DELETE', 'HEAD'), target, async (method, raw) => {
        gateway.simulator.reset();
        const bytes = Buffer.from(rawRequest(`${method} ${raw}`, [AUTH, 'Content-Length: 0']), 'latin1');
        const answer = await sendRaw(gateway.port, bytes);
        const arrivals = gateway.simulator.arrivals();
        if (arrivals.length === 0) {
          seen.refused += 1;
          expect([400, 403, 404]).toContain(answer.status);
          return;
        }
        seen.arrived += 1;
        // To the byte: nothing was repaired on the way.
        expect(arrivals.map((each) => [each.method, each.target])).toEqual([[method, raw]]);
        const [path = ''] = raw.split('?');
        for (const [server, read] of Object.entries(pathParsers)) {
          expect([server, ...read(path).slice(0, 3)]).toEqual([server, ...MAY]);
        }
      }),
      { seed, numRuns },
    );
    expect(seen.arrived).toBeGreaterThan(numRuns / 20);
    expect(seen.refused).toBeGreaterThan(numRuns / 20);
  });
});

const ENDING = [
  ...[
    'Authorization',
    'X-API-Key',
    'Proxy-Authorization',
    'Cookie',
    'Host',
    'Forwarded',
    'Via',
    'Proxy',
    'TE',
    'Keep-Alive',
    'Upgrade',
  ],
  ...[
    'X-Forwarded-For',
    'X-Forwarded-Host',
    'X-Forwarded-Proto',
    'X-Forwarded-Whatever',
    'X-Real-IP',
    'True-Client-IP',
    'Prefer',
  ],
  ...['X-HTTP-Method-Override', 'X-Method-Override', 'X-HTTP-Method', 'X-Original-URL', 'X-Rewrite-URL', 'Trailer'],
];
const spelling = (names: readonly string[]) =>
  fc.tuple(fc.constantFrom(...names), fc.integer({ min: 0, max: 2 ** 30 })).map(([name, bits]) =>
    Array.from(name, (char, i) => {
      if (((bits >> (i % 30)) & 1) === 0) return char;
      return char === '-' ? '_' : char === char.toLowerCase() ? char.toUpperCase() : char.toLowerCase();
    }).join(''),
  );
/** As CGI has it; two names of one variable are one name to PHP. */
const variable = (name: string) => name.toUpperCase().replaceAll('-', '_');
/** In their own spelling they mean something at the gateway: another key, another host, another protocol. */
const MEANT_FOR_US = new Set(['AUTHORIZATION', 'X-API-KEY', 'HOST', 'UPGRADE']);

const CANARY = 'canary-of-a-caller';
const passing = fc
  .tuple(
    // A word by which proxies say who asked ends at the gateway in any name: test/trust/forwarding-headers.test.ts.
    fc
      .stringMatching(/^[A-Za-z][A-Za-z0-9!#$%&'*+.^`|~-]{0,12}$/)
      .filter((name) => !/ip|addr|forward|cert|ssl|override|port|host/i.test(name)),
    fc.stringMatching(/^[!-~\xa1-\xff](?:[ -~\t\xa1-\xff]{0,12}[!-~\xa1-\xff])?$/),
  )
  .map(([name, value]): [string, string] => [`X-Pass-${name}`, value]);
const ending = spelling(ENDING)
  .filter((name) => !MEANT_FOR_US.has(name.toUpperCase()))
  .map((name): [string, string] => [name, CANARY]);

describe('headers that end at the gateway end there in every spelling, all others arrive as they were sent', () => {
  test.each(SEEDS)('seed %i', { timeout: TIMEOUT_MS }, async (seed) => {
    await using gateway = await open();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(passing, ending), { maxLength: 20 }), fc.boolean(), async (headers, hop) => {
        gateway.simulator.reset();
        const named = hop ? headers.find(([name]) => name.startsWith('X-Pass-'))?.[0] : undefined;
        const lines = headers.map(([name, value]) => `${name}: ${value}`);
        const text = rawRequest('GET /api/v1/flows', [AUTH, ...lines]);
        const bytes =
          named === undefined ? text : text.replace('Connection: close', () => `Connection: close, ${named}`);
        const answer = await sendRaw(gateway.port, Buffer.from(bytes, 'latin1'));
        expect(answer.status).toBe(200);
        const [arrival, ...more] = gateway.simulator.arrivals();
        expect(more).toEqual([]);
        const got = pairs(arrival!.headers);
        const kept = headers.filter(
          ([name]) => name.startsWith('X-Pass-') && name.toLowerCase() !== named?.toLowerCase(),
        );
        expect(got.filter(([name]) => name.startsWith('X-Pass-'))).toEqual(kept);
        expect(JSON.stringify(got)).not.toContain(CANARY);
        expect(JSON.stringify(got)).not.toContain(BILLING_KEY);
        const values = (name: string) => got.filter((each) => variable(each[0]) === name).map(([, value]) => value);
        expect(values('AUTHORIZATION')).toEqual([FAKE_PRIMARY_KEY]);
        expect(values('HOST')).toEqual([new URL(gateway.simulator.url).host]);
        expect(values('X_REQUEST_ID')).toHaveLength(1);
      }),
      { seed, numRuns },
    );
  });
});

function pairs(list: readonly string[]): [string, string][] {
  return list.flatMap((name, i): [string, string][] => (i % 2 === 0 ? [[name, list[i + 1] as string]] : []));
}
