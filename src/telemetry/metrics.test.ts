import { describe, expect, it } from 'vitest';
import { finishedRequest } from '../../test/support/finished-request.ts';
import type { EpochMs } from '../clock.ts';
import type { BudgetView } from '../quota/budgets.ts';
import type { MetricSources } from './gauges.ts';
import { createMetrics } from './metrics.ts';

const nothing: MetricSources = {
  accounts: () => [],
  issuers: () => [],
  tenantBudgets: () => [],
  cache: () => ({ entries: 0, bytes: 0 }),
  state: () => ({ up: true, fallback: false }),
  certificates: () => [],
  bodyMemory: () => ({ bytes: 0, totalBytes: 0, waiting: 0 }),
  logLinesDropped: () => 0,
  upstreams: () => ({}),
  keyExpiries: () => [],
  keyUses: () => [],
  credentials: () => [],
  revision: () => 'abc',
};
const account = {
  ...{ id: 'main', limit: 240, advertisedLimit: 240, ceiling: 235, slotsInUse: 7, externalUsage: 2 },
  ...{ waiting: 3, replicas: 2, cooldownMs: 0 },
};
const budget = (of: Pick<BudgetView, 'limit' | 'used' | 'warnAt'>): BudgetView => ({
  ...{ id: 'starts', per: 'month', timeZone: 'UTC', allowed: 9, left: 5 },
  ...{ startsAt: 1.7e12 as EpochMs, resetsAt: 1.8e12 as EpochMs },
  ...of,
});
function metering(sources: Partial<MetricSources> = {}) {
  const unreadable: string[] = [];
  const metrics = createMetrics({
    version: '1.2.3',
    sources: { ...nothing, ...sources },
    onUnreadable: (metric, error) => unreadable.push(`${metric}: ${String(error)}`),
  });
  const finish = (other: Parameters<typeof finishedRequest>[0] = {}): void => {
    metrics.requestStarted();
    metrics.requestFinished(finishedRequest({ durationMs: 200, ...other }));
  };
  return { metrics, finish, unreadable, scrape: async () => parse(await metrics.render()) };
}

describe('the metrics of the contract', () => {
  it('have their names, types and labels, and a help text each', async () => {
    const { metrics, finish, scrape } = metering({
      accounts: () => [{ ...account, budgets: [budget({ limit: 9, used: 4, warnAt: 8 })] }],
      tenantBudgets: () => [
        { tenant: 'billing', budgets: [budget({ limit: 5, used: 3, warnAt: 4 })] },
        // Without a part it has no limit, and without use it is not there at all.
        { tenant: 'reader', budgets: [budget({ limit: null, used: 1, warnAt: null })] },
        { tenant: 'other', budgets: [budget({ limit: null, used: 0, warnAt: null })] },
      ],
      cache: () => ({ entries: 4, bytes: 4096 }),
      upstreams: () => ({ core: { breaker: 'open', inFlight: 3, waiting: 2 } }),
      keyExpiries: () => [{ tenant: 'billing', key: '2026-11', epochSeconds: 1.8e9 }],
      keyUses: () => [{ tenant: 'billing', key: '2026-11', epochSeconds: 1.8e9 }],
      credentials: () => [{ account: 'main', id: 'spare', failing: false }],
      issuers: () => [{ issuer: 'cluster', keys: 2, problem: null }],
      certificates: () => [{ port: 'traffic', epochSeconds: 1.8e9 }],
    });
    metrics.tlsHandshake('traffic', 'ok');
    finish({ code: 'tenant_quota', status: 429 });
    metrics.upstreamAttempt('main', 'core', 'GET', 200, 0.1);
    metrics.upstreamRetry('core', 'credential');
    metrics.requestAvoided('billing', 'hit');
    metrics.quotaDecision('main', 'billing', 'admitted');
    metrics.wouldReject('billing', 'tenant_quota');
    metrics.quotaWait('billing', 0);
    metrics.upstreamThrottled('main');
    metrics.invalidUpstreamHeader('main', 'x-ratelimit-limit');
    metrics.tokenRejected('cluster', 'signature');
    metrics.guardFallback('guess');
    metrics.idempotency('first');
    metrics.spans('exported', 2);
    metrics.credentialRefresh('main', 'spare', 'ok');
    metrics.credentialExpiry('main', 'spare', 1.8e9);
    metrics.cacheOperation('memory', 'hit');
    metrics.configLoaded('ok', 1.7e9);
    const { families, samples } = await scrape();
    const shapes = Object.fromEntries(
      [...families]
        .filter(([name]) => name.startsWith('patchgate_'))
        .map(([name, { type }]) => {
          const sample = samples.find((each) => each.family === name);
          const labels = Object.keys(sample?.labels ?? { missing: '' }).filter((label) => label !== 'le');
          return [name.slice('patchgate_'.length), `${type}{${labels.join()}}`];
        }),
    );
    expect(shapes).toEqual({
      http_requests_total: 'counter{tenant,route,method,status,cache}',
      http_request_duration_seconds: 'histogram{tenant,route,cache}',
      http_requests_in_flight: 'gauge{}',
      rejections_total: 'counter{tenant,code}',
      token_rejections_total: 'counter{issuer,reason}',
      issuer_keys: 'gauge{issuer}',
      issuer_up: 'gauge{issuer}',
      would_reject_total: 'counter{tenant,code}',
      upstream_requests_total: 'counter{account,upstream,method,status}',
      upstream_request_duration_seconds: 'histogram{upstream}',
      upstream_retries_total: 'counter{}',
      trace_spans_total: 'counter{outcome}',
      upstream_requests_avoided_total: 'counter{tenant,by}',
      quota_limit: 'gauge{account}',
      quota_limit_advertised: 'gauge{account}',
      quota_ceiling: 'gauge{account}',
      quota_slots_in_use: 'gauge{account}',
      quota_external_usage: 'gauge{account}',
      quota_decisions_total: 'counter{account,tenant,decision}',
      guard_fallbacks_total: 'counter{guard}',
      idempotency_total: 'counter{outcome}',
      quota_wait_seconds: 'histogram{tenant}',
      quota_waiting: 'gauge{account}',
      quota_replicas: 'gauge{account}',
      budget_limit: 'gauge{account,budget}',
      budget_used: 'gauge{account,budget}',
      budget_warn_at: 'gauge{account,budget}',
      budget_start_timestamp_seconds: 'gauge{account,budget}',
      budget_reset_timestamp_seconds: 'gauge{account,budget}',
      tenant_budget_limit: 'gauge{tenant,budget}',
      tenant_budget_used: 'gauge{tenant,budget}',
      tenant_budget_warn_at: 'gauge{tenant,budget}',
      upstream_breaker_state: 'gauge{upstream}',
      upstream_in_flight: 'gauge{upstream}',
      upstream_waiting: 'gauge{upstream}',
      upstream_throttled_total: 'counter{account}',
      upstream_invalid_headers_total: 'counter{account,field}',
      credential_refreshes_total: 'counter{account,credential,outcome}',
      credential_expiry_timestamp_seconds: 'gauge{account,credential}',
      credential_up: 'gauge{account,credential}',
      tenant_key_expiry_timestamp_seconds: 'gauge{tenant,key}',
      tenant_key_last_used_timestamp_seconds: 'gauge{tenant,key}',
      tls_certificate_expiry_timestamp_seconds: 'gauge{port}',
      tls_handshakes_total: 'counter{port,outcome}',
      cache_entries: 'gauge{}',
      cache_bytes: 'gauge{}',
      buffered_body_bytes: 'gauge{}',
      buffered_body_limit_bytes: 'gauge{}',
      buffered_body_waiting: 'gauge{}',
      cache_operations_total: 'counter{tier,outcome}',
      redis_up: 'gauge{}',
      redis_fallback_active: 'gauge{}',
      config_reloads_total: 'counter{outcome}',
      config_last_success_timestamp_seconds: 'gauge{}',
      config_last_reload_successful: 'gauge{}',
      config_info: 'gauge{revision}',
      build_info: 'gauge{version,node}',
      log_lines_dropped_total: 'counter{}',
      metrics_unreadable_total: 'counter{}',
    });
    for (const { help } of families.values()) expect(help).not.toBe('');
    const parts = samples.filter(({ family }) => family.startsWith('patchgate_tenant_budget_'));
    expect(parts.map(({ family, labels }) => `${family.slice(24)} ${labels['tenant']}`)).toEqual([
      ...['limit billing', 'used billing', 'used reader', 'warn_at billing'],
    ]);
  });

  it("stand beside the process's own, under their usual names", async () => {
    const { value, families } = await metering().scrape();
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(0);
    expect(families.has('nodejs_eventloop_lag_seconds')).toBe(true);
    expect(value('patchgate_build_info', { version: '1.2.3', node: process.version })).toBe(1);
  });

  it('keep to the conventions: counters end in _total and nothing else of ours does', async () => {
    const { families } = await metering().scrape();
    for (const [name, { type }] of families)
      if (name.startsWith('patchgate_')) expect(`${name} ${type}`).toMatch(/_total counter$|(?<!_total) (?!counter)/);
  });
});

describe('counting', () => {
  it('adds up requests by their labels, and rejections by their code', async () => {
    const { finish, scrape } = metering();
    finish();
    finish();
    finish({ cache: 'hit' });
    finish({ tenant: '', route: '', status: 401, code: 'key_missing', cache: 'none' });
    const { value } = await scrape();
    const base = { tenant: 'billing', route: '/api/v1/**', method: 'GET', status: '200' };
    expect(value('patchgate_http_requests_total', { ...base, cache: 'miss' })).toBe(2);
    expect(value('patchgate_http_requests_total', { ...base, cache: 'hit' })).toBe(1);
    expect(value('patchgate_rejections_total', { tenant: 'none', code: 'key_missing' })).toBe(1);
  });

  it('puts a duration into every bucket that holds it, the bound included', async () => {
    const { finish, scrape } = metering();
    for (const seconds of [0.1, 0.1000001, 1000]) finish({ durationMs: seconds * 1000 });
    const { value } = await scrape();
    const name = 'patchgate_http_request_duration_seconds';
    const labels = { tenant: 'billing', route: '/api/v1/**', cache: 'miss' };
    const bucket = (le: string) => value(`${name}_bucket`, { ...labels, le });
    expect([bucket('0.05'), bucket('0.1'), bucket('0.25'), bucket('60'), bucket('+Inf')]).toEqual([0, 1, 2, 2, 3]);
    expect(value(`${name}_count`, labels)).toBe(3);
    expect(value(`${name}_sum`, labels)).toBeCloseTo(1000.2);
  });

  it('is not spoiled for ever by a duration that is none', async () => {
    const { metrics, scrape } = metering();
    for (const seconds of [Number.NaN, -1, 2]) metrics.quotaWait('billing', seconds);
    const { value } = await scrape();
    expect(value('patchgate_quota_wait_seconds_sum', { tenant: 'billing' })).toBe(2);
    expect(value('patchgate_quota_wait_seconds_count', { tenant: 'billing' })).toBe(1);
  });

  it('shows what is in flight now', async () => {
    const { metrics, scrape } = metering();
    metrics.requestStarted();
    metrics.requestStarted();
    metrics.requestFinished(finishedRequest());
    expect((await scrape()).value('patchgate_http_requests_in_flight')).toBe(1);
  });

  it('starts at zero where an alert needs a first increase', async () => {
    const { value } = await metering({ accounts: () => [account] }).scrape();
    expect(value('patchgate_upstream_throttled_total', { account: 'main' })).toBe(0);
    expect(value('patchgate_config_reloads_total', { outcome: 'refused' })).toBe(0);
    expect(value('patchgate_upstream_retries_total')).toBe(0);
  });

  it('is separate for each gateway', async () => {
    const one = metering();
    const two = metering();
    one.finish();
    expect((await one.scrape()).named('patchgate_http_requests_total')).toHaveLength(1);
    expect((await two.scrape()).named('patchgate_http_requests_total')).toHaveLength(0);
  });

  it('moves the time of the last good load only with a good load', async () => {
    const { metrics, scrape } = metering();
    metrics.configLoaded('ok', 100);
    metrics.configLoaded('refused', 200);
    const { value } = await scrape();
    expect(value('patchgate_config_last_reload_successful')).toBe(0);
    expect(value('patchgate_config_last_success_timestamp_seconds')).toBe(100);
    expect(value('patchgate_config_reloads_total', { outcome: 'refused' })).toBe(1);
    metrics.configLoaded('ok', 300);
    expect((await scrape()).value('patchgate_config_last_reload_successful')).toBe(1);
  });
});

describe('what is read at the scrape', () => {
  it('is what the sources say at that moment, and nothing that they no longer name', async () => {
    let accounts = [account, { ...account, id: 'other' }];
    let expiries = [{ tenant: 'billing', key: 'old', epochSeconds: 1 }];
    let up = true;
    const { scrape } = metering({
      accounts: () => accounts,
      keyExpiries: () => expiries,
      state: () => ({ up, fallback: !up }),
      logLinesDropped: () => 5,
    });
    const before = await scrape();
    expect(before.value('patchgate_quota_slots_in_use', { account: 'other' })).toBe(7);
    expect(before.value('patchgate_redis_up')).toBe(1);
    expect(before.value('patchgate_log_lines_dropped_total')).toBe(5);
    accounts = [{ ...account, slotsInUse: 9 }];
    expiries = [{ tenant: 'billing', key: 'new', epochSeconds: 2 }];
    up = false;
    const after = await scrape();
    expect(after.named('patchgate_quota_slots_in_use')).toMatchObject([{ labels: { account: 'main' }, value: 9 }]);
    expect(after.named('patchgate_tenant_key_expiry_timestamp_seconds')).toMatchObject([{ labels: { key: 'new' } }]);
    expect([after.value('patchgate_redis_up'), after.value('patchgate_redis_fallback_active')]).toEqual([0, 1]);
    expect(after.value('patchgate_log_lines_dropped_total')).toBe(5);
  });
});

describe('a source that cannot be read', () => {
  const fails = () => {
    throw new Error('no such account');
  };

  it('costs its own values only, and is counted in the same scrape', async () => {
    const { metrics, scrape, unreadable } = metering({
      keyExpiries: fails,
      state: fails,
      logLinesDropped: fails,
      cache: () => ({ entries: 4, bytes: 4096 }),
    });
    metrics.upstreamRetry('core', 'credential');
    const { value, named } = await scrape();
    expect(value('patchgate_cache_entries')).toBe(4);
    expect(value('patchgate_upstream_retries_total')).toBe(1);
    expect(value('process_resident_memory_bytes')).toBeGreaterThan(0);
    for (const name of [
      'tenant_key_expiry_timestamp_seconds',
      'redis_up',
      'redis_fallback_active',
      'log_lines_dropped_total',
    ])
      expect(named(`patchgate_${name}`)).toEqual([]);
    expect(value('patchgate_metrics_unreadable_total')).toBe(4);
    expect(unreadable).toContain('patchgate_tenant_key_expiry_timestamp_seconds: Error: no such account');
  });

  it('is reported once while it goes on failing, and again after it has worked', async () => {
    let works = false;
    const { scrape, unreadable } = metering({ revision: () => (works ? 'abc' : fails()) });
    for (const now of [false, false, true, false]) {
      works = now;
      expect((await scrape()).named('patchgate_config_info').length).toBe(now ? 1 : 0);
    }
    expect(unreadable).toHaveLength(2);
    expect((await scrape()).value('patchgate_metrics_unreadable_total')).toBe(4);
  });

  it('costs the counters nothing, though accounts are what fails', async () => {
    const { metrics, scrape, unreadable } = metering({ accounts: fails });
    metrics.quotaDecision('main', 'billing', 'admitted');
    const { value, named } = await scrape();
    const labels = { account: 'main', tenant: 'billing', decision: 'admitted' };
    expect(value('patchgate_quota_decisions_total', labels)).toBe(1);
    expect(named('patchgate_quota_ceiling')).toEqual([]);
    expect(unreadable.length).toBeGreaterThan(0);
  });
});

describe('series', () => {
  it('do not grow with methods, statuses and cache statuses that are unknown', async () => {
    const { metrics, finish, scrape } = metering();
    for (let i = 0; i < 20_000; i++) {
      finish({ method: `X${i}`, status: 600 + i, cache: `c${i}` as 'hit' });
      metrics.upstreamAttempt('main', 'core', `X${i}`, 1000 + i, 0.1);
    }
    const { named } = await scrape();
    expect(named('patchgate_http_requests_total')).toMatchObject([
      { labels: { method: 'other', status: 'other', cache: 'none' }, value: 20_000 },
    ]);
    expect(named('patchgate_upstream_requests_total')).toHaveLength(1);
  });

  it('stay bounded when a label is used wrongly, and still add up', async () => {
    const { finish, scrape } = metering();
    for (let i = 0; i < 30_000; i++) finish({ route: `/path/${i}` });
    const { named } = await scrape();
    const requests = named('patchgate_http_requests_total');
    const counts = named('patchgate_http_request_duration_seconds_count');
    expect(requests.length).toBeLessThan(21_000);
    expect(counts.length).toBeLessThan(2_100);
    for (const series of [requests, counts]) expect(series.reduce((sum, each) => sum + each.value, 0)).toBe(30_000);
  });

  it('of tenants beyond the limit are counted together, by route', async () => {
    const { finish, scrape } = metering();
    for (let i = 0; i < 12_000; i++) finish({ tenant: `t${i}` });
    const { value } = await scrape();
    const labels = { tenant: 'other', route: '/api/v1/**', cache: 'miss' };
    expect(value('patchgate_http_requests_total', { ...labels, method: 'GET', status: '200' })).toBe(2_000);
    expect(value('patchgate_http_request_duration_seconds_count', labels)).toBe(11_000);
  });

  it('of a removed tenant are gone at once, what still comes of it is no tenant, and a return counts anew', async () => {
    const { metrics, finish, scrape } = metering();
    const all = (tenant: string): void => {
      finish({ tenant, code: 'tenant_quota' });
      metrics.requestAvoided(tenant, 'hit');
      metrics.quotaDecision('main', tenant, 'admitted');
      metrics.quotaWait(tenant, 1);
    };
    const tenantsOf = async () =>
      new Set((await scrape()).samples.flatMap(({ labels }) => ('tenant' in labels ? [labels['tenant']] : [])));
    all('billing');
    all('leaving');
    all('');
    metrics.keepTenants(new Set(['billing']));
    expect(await tenantsOf()).toEqual(new Set(['billing', 'none']));
    all('leaving');
    all('billing');
    expect(await tenantsOf()).toEqual(new Set(['billing', 'none']));
    metrics.keepTenants(new Set(['billing', 'leaving']));
    all('leaving');
    const { value } = await scrape();
    expect(value('patchgate_rejections_total', { tenant: 'leaving', code: 'tenant_quota' })).toBe(1);
    expect(value('patchgate_rejections_total', { tenant: 'billing', code: 'tenant_quota' })).toBe(2);
    expect(value('patchgate_rejections_total', { tenant: 'none', code: 'tenant_quota' })).toBe(2);
  });
});

it('a label value cannot break out of its quotes', async () => {
  const { metrics, scrape } = metering();
  metrics.invalidUpstreamHeader('main', 'a"b\\c\nd{}');
  expect((await scrape()).named('patchgate_upstream_invalid_headers_total')).toMatchObject([
    { labels: { field: 'a"b\\c\nd{}' }, value: 1 },
  ]);
});

interface Sample {
  readonly name: string;
  readonly family: string;
  readonly labels: Record<string, string>;
  readonly value: number;
}

/** Reads the exposition format strictly: a line that is none of it fails the test. */
function parse(text: string) {
  const families = new Map<string, { type: string; help: string }>();
  const samples: Sample[] = [];
  let family = '';
  for (const line of text.split('\n').filter((each) => each !== '')) {
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      expect(families.has(name)).toBe(false);
      family = name;
      families.set(name, { type: '', help: rest });
    } else if (kind === 'TYPE') {
      expect(name).toBe(family);
      families.set(name, { type: rest, help: families.get(name)?.help ?? '' });
    } else samples.push(sampleOf(line, family));
  }
  const named = (name: string) => samples.filter((each) => each.name === name);
  const value = (name: string, labels: Record<string, string> = {}) =>
    named(name).find((each) => JSON.stringify(sorted(each.labels)) === JSON.stringify(sorted(labels)))?.value;
  return { families, samples, named, value };
}

function sampleOf(line: string, family: string): Sample {
  const match = /^([a-z0-9_]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\["\\n])*",?)*)\})? ([-+\d.e]+|NaN|Nan)$/.exec(line);
  if (match === null) throw new Error(`not a sample: ${line}`);
  const [, name = '', list = '', value = ''] = match;
  expect(name.startsWith(family)).toBe(true);
  const labels: Record<string, string> = {};
  for (const [, label = '', quoted = ''] of list.matchAll(/([a-z_]+)="((?:[^"\\]|\\["\\n])*)"/g)) {
    labels[label] = quoted.replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char));
  }
  return { name, family, labels, value: Number(value) };
}

function sorted(labels: Record<string, string>): [string, string][] {
  return Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
}
