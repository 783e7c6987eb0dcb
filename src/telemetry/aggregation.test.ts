import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { createDeparted, mergeSnapshots } from './aggregation.ts';
import { createMetrics } from './metrics.ts';
import type { MetricSources } from './pulled.ts';

/** What several workers' values of each gauge make together, and why it may not be another. */
const GAUGES: Readonly<Record<string, 'sum' | 'max' | 'min'>> = {
  // Each has its own.
  http_requests_in_flight: 'sum',
  quota_waiting: 'sum',
  upstream_in_flight: 'sum',
  upstream_waiting: 'sum',
  cache_entries: 'sum',
  cache_bytes: 'sum',
  workers: 'sum',
  // All are told the same by Redis, or have read the same.
  quota_limit: 'max',
  quota_ceiling: 'max',
  quota_slots_in_use: 'max',
  quota_slots_foreign: 'max',
  quota_replicas: 'max',
  tenant_key_expiry_timestamp_seconds: 'max',
  build_info: 'max',
  config_info: 'max',
  // The primary alone has them; the workers say 0.
  config_last_success_timestamp_seconds: 'max',
  config_last_reload_successful: 'max',
  // The worst is what matters.
  upstream_breaker_state: 'max',
  state_fallback: 'max',
  state_up: 'min',
  credential_up: 'min',
  credential_expiry_timestamp_seconds: 'min',
  tls_certificate_expiry_timestamp_seconds: 'min',
};
const PROCESS = {
  process_start_time_seconds: 'min',
  nodejs_eventloop_lag_p99_seconds: 'max',
  process_resident_memory_bytes: 'sum',
  process_open_fds: 'sum',
  process_max_fds: 'sum',
};

const quiet: MetricSources = {
  accounts: () => [],
  cache: () => null,
  upstreams: () => [],
  keyExpiries: () => [],
  credentials: () => [],
  revision: () => 'abc',
};
const worker = (more: Partial<MetricSources> = {}) =>
  createMetrics({ version: '1', sources: { ...quiet, ...more }, onUnreadable: () => {} });
const account = { id: 'main', limit: 240, ceiling: 235, slotsInUse: 7, slotsForeign: 2, waiting: 3, replicas: 2 };
const value = (text: string, sample: string) => {
  const line = text.split('\n').find((each) => each.startsWith(`${sample} `));
  return line === undefined ? null : Number(line.slice(sample.length));
};

describe('metrics of several workers', () => {
  it('have one way of being put together for each family: counts are added up, and gauges as their meaning wants', async () => {
    const families = JSON.parse(await worker().snapshot()) as { name: string; type: string; aggregator: string }[];
    const gauges: Record<string, string> = {};
    for (const { name, type, aggregator } of families) {
      if (type !== 'gauge') expect([name, aggregator]).toEqual([name, 'sum']);
      else if (name.startsWith('patchgate_')) gauges[name.slice('patchgate_'.length)] = aggregator;
    }
    expect(gauges).toEqual(GAUGES);
    expect(Object.fromEntries(families.map(({ name, aggregator }) => [name, aggregator]))).toMatchObject(PROCESS);
    expect(families.filter(({ aggregator }) => !['sum', 'max', 'min'].includes(aggregator))).toEqual([]);
  });

  it('are added up where each counted its own, and not where all were told the same', async () => {
    const one = worker({ accounts: () => [account], cache: () => ({ entries: 2, bytes: 10 }) });
    const two = worker({
      accounts: () => [{ ...account, slotsInUse: 8 }],
      state: () => ({ up: false, fallback: true }),
    });
    const request = {
      tenant: 'billing',
      route: '/a',
      method: 'GET',
      status: 200,
      cache: 'miss',
      code: null,
      seconds: 0.2,
    };
    for (const metrics of [one, two, two]) {
      metrics.requestStarted();
      metrics.requestFinished(request);
    }
    const text = await mergeSnapshots([await one.snapshot(), await two.snapshot()]);
    const of = (name: string) => value(text, `patchgate_${name}`);
    expect(of('http_requests_total{tenant="billing",route="/a",cache="miss",method="GET",status="200"}')).toBe(3);
    expect(of('http_request_duration_seconds_bucket{le="0.25",tenant="billing",route="/a",cache="miss"}')).toBe(3);
    expect(of('http_request_duration_seconds_bucket{le="0.1",tenant="billing",route="/a",cache="miss"}')).toBe(0);
    expect(of('quota_slots_in_use{account="main"}')).toBe(8);
    expect(of('quota_ceiling{account="main"}')).toBe(235);
    expect(of('quota_waiting{account="main"}')).toBe(6);
    expect([of('state_up'), of('state_fallback'), of('cache_entries'), of('workers')]).toEqual([0, 1, 2, 2]);
    expect(text).toContain('# TYPE patchgate_http_request_duration_seconds histogram');
  });

  it('that are gone have left what they counted, and no gauge; with their tenant it goes', async () => {
    const departed = createDeparted();
    expect(departed.snapshots()).toEqual([]);
    const gone = worker({ accounts: () => [account] });
    gone.callSaved('billing', 'hit');
    gone.callSaved('reader', 'hit');
    gone.callSaved('', 'hit');
    departed.add(await gone.snapshot());
    departed.add(await gone.snapshot());
    const merged = async () => mergeSnapshots([await worker().snapshot(), ...departed.snapshots()]);
    const saved = (text: string, tenant: string) =>
      value(text, `patchgate_upstream_calls_saved_total{tenant="${tenant}",by="hit"}`);
    const text = await merged();
    expect([saved(text, 'billing'), saved(text, 'reader'), saved(text, 'none')]).toEqual([2, 2, 2]);
    expect(text).not.toContain('patchgate_quota_slots_in_use{');
    departed.keepTenants(new Set(['billing']));
    const later = await merged();
    expect([saved(later, 'billing'), saved(later, 'reader'), saved(later, 'none')]).toEqual([2, null, 2]);
  });

  it('are there but for the family that can not be read', async () => {
    const broken = worker({
      upstreams: () => {
        throw new Error('broken');
      },
    });
    const text = await mergeSnapshots([await broken.snapshot(), await worker().snapshot()]);
    expect(value(text, 'patchgate_metrics_unreadable_total')).toBe(3);
    expect(value(text, 'patchgate_cache_entries')).toBe(0);
    expect(new Registry().contentType).toBe(broken.contentType);
  });
});
