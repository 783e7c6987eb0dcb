import { Agent, request } from 'node:http';
import { expect, test } from 'vitest';
import { type Exposition, scrape } from '../support/exposition.ts';
import { BILLING_KEY, type Config, configuration, READER_KEY, type Running, run, TENANTS } from '../support/gateway.ts';

/** Requests with all that a caller can make up: nothing of it may become a label. */
const REQUESTS = 10_000;
/** Ours, with three tenants and the resources of Patchworks as routes: some 600, most of them buckets of the request's duration. */
const MOST_SERIES = 800;
/** Series of the process, nodejs_ and process_: 64 then. Types of handles and resources come and go. */
const MOST_PROCESS_SERIES = 100;

test('the number of series stays bounded through 10,000 requests of random paths, methods, keys, queries and headers, and does not grow with more', async () => {
  await using gateway = await run({ config: openHanded, simulator: { switches: { limit: 1_000_000 } } });
  await send(gateway, 0, REQUESTS);
  const after = await scrape(gateway.adminUrl);
  expect(after.sum('patchgate_http_requests_total')).toBeGreaterThanOrEqual(REQUESTS);
  expect(after.sum('patchgate_upstream_requests_total')).toBeGreaterThan(REQUESTS / 4);
  const own = (of: Exposition) => [...of.series.keys()].filter((sample) => sample.startsWith('patchgate_'));
  expect(own(after).length).toBeLessThan(MOST_SERIES);
  expect(after.series.size - own(after).length).toBeLessThan(MOST_PROCESS_SERIES);
  expect(after.text).not.toMatch(/made-up/);
  await send(gateway, REQUESTS, 2_000);
  const later = await scrape(gateway.adminUrl);
  expect(own(later).filter((sample) => !after.series.has(sample))).toEqual([]);
}, 120_000);

function openHanded(upstream: string): Config {
  const plenty = { rate: 900_000, burst: 50_000, maxWait: '1s' };
  return configuration(upstream, {
    accounts: {
      main: {
        quota: { limit: 1_000_000, ceiling: 900_000, burst: 50_000 },
        credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }],
      },
    },
    // The guards are not what this is about.
    limits: { failedAuth: 1_000_000, requestsPerSecond: 1_000_000 },
    tenants: {
      billing: { ...TENANTS.billing, quota: plenty },
      reader: { ...TENANTS.reader, quota: plenty },
      disabled: TENANTS.disabled,
    },
    log: { level: 'error' },
  });
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'REPORT', 'PURGE'];
const KEYS = [BILLING_KEY, READER_KEY, BILLING_KEY, READER_KEY, null];
const PATHS = [
  (word: string) => `/api/v1/flows/${word}`,
  (word: string) => `/api/v1/flow-runs?filter=${word}`,
  (word: string) => `/api/v2/${word}`,
  (word: string) => `/api/v1/flows/${word}/start`,
  (word: string) => `/${word}`,
  (word: string) => `/api/v1/${word}/..%2f${word}`,
  () => '/api/v1/flows',
];

/** Each combination of what decides a label comes again and again; the words in between never do. */
async function send(gateway: Running, from: number, count: number): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 32 });
  let next = from;
  const sendOne = (i: number) =>
    new Promise<void>((resolve, reject) => {
      const word = `made-up-${i}`;
      const method = METHODS[i % METHODS.length]!;
      const path = PATHS[i % PATHS.length]!(word);
      const key = KEYS[Math.floor(i / METHODS.length) % KEYS.length] ?? `pgk_${word}`;
      const headers = {
        'X-API-Key': key,
        'X-Request-Id': word,
        'User-Agent': word,
        Accept: `application/${word}`,
        Traceparent: word,
        ...(i % 3 === 0 && { 'Idempotency-Key': word }),
        ...(i % 4 === 0 && { 'Cache-Control': `max-age=${i}, ${word}` }),
      };
      const asked = request({ agent, host: '127.0.0.1', port: gateway.port, method, path, headers }, (answer) => {
        answer.resume();
        answer.once('end', resolve);
        answer.once('error', reject);
      });
      asked.once('error', reject);
      asked.end();
    });
  const caller = async () => {
    while (next < from + count) await sendOne(next++);
  };
  await Promise.all(Array.from({ length: 32 }, caller));
  agent.destroy();
}
