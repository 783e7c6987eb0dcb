import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { promtool, scrape } from '../support/exposition.ts';
import { type Config, configuration, READER_KEY, type Running, run, sha256, TENANTS } from '../support/gateway.ts';
import { runWithAllMetrics } from '../support/metrics-gateway.ts';

/** Design, section 5, and what has come to it since: name, type, labels. */
const CONTRACT = `
http_requests_total counter tenant,route,method,status,cache
http_request_duration_seconds histogram tenant,route,cache
http_requests_in_flight gauge
rejections_total counter tenant,code
token_rejections_total counter issuer,reason
issuer_keys gauge issuer
issuer_up gauge issuer
would_reject_total counter tenant,code
upstream_requests_total counter account,upstream,method,status
upstream_request_duration_seconds histogram upstream
upstream_retries_total counter
upstream_requests_avoided_total counter tenant,by
quota_limit gauge account
quota_limit_advertised gauge account
quota_ceiling gauge account
quota_slots_in_use gauge account
quota_external_usage gauge account
quota_decisions_total counter account,tenant,decision
quota_wait_seconds histogram tenant
quota_waiting gauge account
budget_limit gauge account,budget
budget_used gauge account,budget
budget_warn_at gauge account,budget
budget_start_timestamp_seconds gauge account,budget
budget_reset_timestamp_seconds gauge account,budget
tenant_budget_limit gauge tenant,budget
tenant_budget_used gauge tenant,budget
tenant_budget_warn_at gauge tenant,budget
upstream_throttled_total counter account
credential_refreshes_total counter account,credential,outcome
credential_expiry_timestamp_seconds gauge account,credential
tenant_key_expiry_timestamp_seconds gauge tenant,key
tenant_key_last_used_timestamp_seconds gauge tenant,key
tls_certificate_expiry_timestamp_seconds gauge port
tls_handshakes_total counter port,outcome
cache_entries gauge
cache_bytes gauge
buffered_body_bytes gauge
buffered_body_limit_bytes gauge
buffered_body_waiting gauge
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
  'buffered_body_bytes',
  'buffered_body_waiting',
  'quota_external_usage',
  'redis_fallback_active',
]);

describe('the metrics of a gateway to which everything has happened', () => {
  let gateway: Running;
  beforeAll(async () => {
    gateway = await runWithAllMetrics();
  });
  afterAll(() => gateway[Symbol.asyncDispose]());

  test('are all of the contract, under its names, types and labels, and have moved', async () => {
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
    const { text } = await scrape(gateway.adminUrl);
    expect(promtool(['check', 'metrics'], text)).toEqual({ code: 0, said: '' });
    expect(promtool(['check', 'metrics'], text.replaceAll('_seconds', '_ms')).code).not.toBe(0);
  });
});

test('the number of series shrinks with the tenants: those of a removed one are gone after a reload, and begin anew should it return', async () => {
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
