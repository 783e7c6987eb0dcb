import { expect, test } from 'vitest';
import { createMetrics } from './metrics.ts';
import type { MetricSources } from './pulled.ts';

const fails = () => {
  throw new Error('no such account');
};

function metering(sources: Partial<MetricSources>) {
  const told: string[] = [];
  const metrics = createMetrics({
    version: '1.2.3',
    sources: {
      accounts: () => [],
      cache: () => ({ entries: 4, bytes: 4096 }),
      upstreams: () => [],
      keyExpiries: () => [],
      credentials: () => [],
      revision: () => 'abc',
      ...sources,
    },
    onUnreadable: (family, error) => told.push(`${family}: ${String(error)}`),
  });
  return { metrics, told };
}

test('one source that fails takes no other figures with it, and is counted in the same scrape', async () => {
  const { metrics, told } = metering({ keyExpiries: fails });
  metrics.upstreamRetry('core', 'credential');
  const text = await metrics.render();
  expect(text).toContain('\npatchgate_cache_entries 4\n');
  expect(text).toContain('\npatchgate_upstream_retries_total 1\n');
  expect(text).toContain('\nprocess_resident_memory_bytes ');
  expect(text).not.toContain('patchgate_tenant_key_expiry_timestamp_seconds');
  expect(text).toContain('\npatchgate_metrics_unreadable_total 1\n');
  expect(told).toEqual(['patchgate_tenant_key_expiry_timestamp_seconds: Error: no such account']);
});

test('a source that goes on failing is told of once, and again after it has worked', async () => {
  let works = false;
  const { metrics, told } = metering({ revision: () => (works ? 'abc' : fails()) });
  for (const now of [false, false, true, false]) {
    works = now;
    expect((await metrics.render()).includes('patchgate_config_info{revision="abc"} 1')).toBe(now);
  }
  expect(told).toHaveLength(2);
  expect(await metrics.render()).toContain('\npatchgate_metrics_unreadable_total 4\n');
});

test('accounts that can not be read cost what is said of them, and the counters of the rest stay', async () => {
  const { metrics, told } = metering({ accounts: fails });
  metrics.quotaDecision('main', 'billing', 'admitted');
  const text = await metrics.render();
  expect(text).toContain('patchgate_quota_decisions_total{account="main",tenant="billing",decision="admitted"} 1');
  expect(text).not.toContain('patchgate_quota_ceiling');
  expect(told.length).toBeGreaterThan(0);
});
