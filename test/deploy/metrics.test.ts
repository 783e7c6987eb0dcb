import { Agent, request } from 'node:http';
import { describe, expect, test } from 'vitest';
import { eventful } from '../support/eventful.ts';
import { type Exposition, promtool, scrape } from '../support/exposition.ts';
import {
  BILLING_KEY,
  type Config,
  configuration,
  READER_KEY,
  type Running,
  run,
  sha256,
  TENANTS,
} from '../support/gateway.ts';

/** Design, section 5, and what has come to it since: name, type, labels. */
const CONTRACT = `
http_requests_total counter tenant,route,method,status,cache
http_request_duration_seconds histogram tenant,route,cache
http_requests_in_flight gauge
rejections_total counter tenant,code
upstream_requests_total counter account,upstream,method,status
upstream_request_duration_seconds histogram upstream
upstream_retries_total counter
upstream_requests_avoided_total counter tenant,by
quota_limit gauge account
quota_ceiling gauge account
quota_slots_in_use gauge account
quota_external_usage gauge account
quota_decisions_total counter account,tenant,decision
quota_wait_seconds histogram tenant
quota_waiting gauge account
upstream_throttled_total counter account
credential_refreshes_total counter account,credential,outcome
credential_expiry_timestamp_seconds gauge account,credential
tenant_key_expiry_timestamp_seconds gauge tenant,key
tls_certificate_expiry_timestamp_seconds gauge port
tls_handshakes_total counter port,outcome
cache_entries gauge
cache_bytes gauge
cache_operations_total counter tier,outcome
redis_up gauge
redis_fallback_active gauge
config_reloads_total counter outcome
config_last_success_timestamp_seconds gauge
build_info gauge version,node
process_resident_memory_bytes gauge
nodejs_eventloop_lag_p99_seconds gauge`
  .trim()
  .split('\n')
  .map((line) => line.split(' '));

const MOMENTARY = new Set([
  'http_requests_in_flight',
  'quota_waiting',
  'quota_external_usage',
  'redis_fallback_active',
]);

describe('the metrics of a gateway to which everything has happened', () => {
  test('are all of the contract, under its names, types and labels, and have moved', async () => {
    await using gateway = await eventful();
    const { families, series, sum } = await scrape(gateway.adminUrl);
    for (const [short = '', type, labels = ''] of CONTRACT) {
      const name = families.has(short) ? short : `patchgate_${short}`;
      expect([name, families.get(name)]).toEqual([name, type]);
      const sample = type === 'histogram' ? `${name}_count` : name;
      const [found = ''] = [...series.keys()].filter((each) => each === sample || each.startsWith(`${sample}{`));
      expect([name, [...found.matchAll(/([a-z]+)="/g)].map(([, label]) => label).sort()]).toEqual([
        name,
        labels.split(',').filter(Boolean).sort(),
      ]);
      if (!MOMENTARY.has(short)) expect([name, (sum(sample) ?? 0) > 0]).toEqual([name, true]);
    }
  });

  test('count each thing where it belongs', async () => {
    await using gateway = await eventful();
    const { sum } = await scrape(gateway.adminUrl);
    const counts = (name: string, labels: Record<string, string>) => sum(`patchgate_${name}`, labels);
    expect(counts('quota_decisions_total', { tenant: 'reader', decision: 'admitted' })).toBe(2);
    expect(counts('quota_decisions_total', { tenant: 'reader', decision: 'tenant' })).toBe(1);
    expect(counts('rejections_total', { tenant: 'reader', code: 'tenant_quota' })).toBe(1);
    expect(counts('rejections_total', { tenant: 'none', code: 'key_unknown' })).toBe(1);
    expect(counts('upstream_retries_total', {})).toBe(1);
    expect(counts('upstream_throttled_total', { account: 'main' })).toBe(1);
    expect(counts('credential_refreshes_total', { credential: 'login', outcome: 'ok' })).toBe(1);
    expect(counts('credential_up', { credential: 'primary' })).toBe(0);
    expect(counts('credential_up', { credential: 'login' })).toBe(1);
    expect(counts('idempotency_total', { outcome: 'replayed' })).toBe(1);
    expect(counts('cache_operations_total', { tier: 'memory', outcome: 'hit' })).toBeGreaterThan(0);
    expect(counts('cache_operations_total', { tier: 'redis', outcome: 'store' })).toBeGreaterThan(0);
    expect(counts('quota_replicas', { account: 'main' })).toBe(1);
    expect(counts('config_last_reload_successful', {})).toBe(0);
    expect(counts('config_info', {})).toBe(1);
  });

  test('have nothing that promtool would complain of', async () => {
    await using gateway = await eventful();
    const { text } = await scrape(gateway.adminUrl);
    expect(promtool(['check', 'metrics'], text)).toEqual({ code: 0, said: '' });
    expect(promtool(['check', 'metrics'], text.replaceAll('_seconds', '_ms')).code).not.toBe(0);
  });
});

/** What a caller can make up: nothing of it may become a label. */
const REQUESTS = 10_000;
/** Ours, with three tenants and four routes: 461 when this was written, most of them buckets of the request's duration. */
const MOST_SERIES = 600;
/** Of the process: nodejs_ and process_, 64 then. Types of handles and resources come and go. */
const MOST_PROCESS_SERIES = 100;

describe('the number of series', () => {
  test('stays bounded through 10,000 requests of random paths, methods, keys, queries and headers, and does not grow with more', async () => {
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

  test('shrinks with the tenants: those of a removed one are gone after a reload, and begin anew should it return', async () => {
    await using gateway = await run();
    const { reader, ...others } = TENANTS;
    const tenants = (now: Config) => gateway.reload((upstream) => configuration(upstream, { tenants: now }));
    const ask = async (headers = {}) => (await gateway.fetch('/api/v1/flows', { headers })).status;
    const asReader = { Authorization: READER_KEY };
    const seriesOf = async (tenant: string) =>
      [...(await scrape(gateway.adminUrl)).series.keys()].filter((sample) => sample.includes(`tenant="${tenant}"`));
    const dated = { ...reader, keys: [{ id: 'only', sha256: sha256(READER_KEY), expires: '2100-01-01T00:00:00Z' }] };
    await tenants({ ...others, reader: dated });
    for (let i = 0; i < 3; i++) await ask(asReader);
    const before = await seriesOf('reader');
    expect(before.length).toBeGreaterThan(40);
    await ask();
    await tenants(others);
    expect(await seriesOf('reader')).toEqual([]);
    expect((await seriesOf('billing')).length).toBeGreaterThan(0);
    expect(await ask(asReader)).toBe(401);
    expect(await seriesOf('reader')).toEqual([]);
    await tenants({ ...others, reader: dated });
    expect(await seriesOf('reader')).toEqual([
      'patchgate_tenant_key_expiry_timestamp_seconds{tenant="reader",key="only"}',
    ]);
    await ask(asReader);
    expect(await gateway.metric('patchgate_http_requests_total', { tenant: 'reader' })).toBe(1);
  });
});

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
