import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { configuration, type Running, run } from '../support/gateway.ts';
import { runWithAllMetrics } from '../support/metrics-gateway.ts';
import { type Prometheus, prometheus } from '../support/prometheus.ts';
import { until } from '../support/redis.ts';

const SHIPPED = fileURLToPath(new URL('../../deploy/prometheus/', import.meta.url));

/** The shipped configuration, with addresses in place of names, and in a hurry. */
function scraping(gateways: Readonly<Record<string, Running>>): Record<string, unknown> {
  const shipped = parse(readFileSync(`${SHIPPED}prometheus.yaml`, 'utf8')) as {
    rule_files: string[];
    scrape_configs: { dns_sd_configs: unknown }[];
  };
  const [{ dns_sd_configs: _, ...scrape }] = shipped.scrape_configs as [(typeof shipped.scrape_configs)[0]];
  const targets = Object.entries(gateways).map(([namespace, { adminUrl }]) => ({
    targets: [new URL(adminUrl).host],
    labels: { namespace },
  }));
  return {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: shipped.rule_files.map((path) => `${SHIPPED}${path}`),
    scrape_configs: [{ ...scrape, static_configs: targets }],
  };
}

/** Tests and gateways share a process here: how late that is says nothing. */
const OF_THE_MACHINE = 'PatchgateEventLoopBlocked';

async function alertsIn(server: Prometheus): Promise<string[]> {
  const found = (await server.alerts()).map(({ labels }) => `${labels['namespace']} ${labels['alertname']}`);
  return found.filter((each) => !each.endsWith(OF_THE_MACHINE)).sort();
}

test('Prometheus as shipped evaluates every rule on real gateways, and alerts on what is wrong, where it is, and on nothing else', async () => {
  await using platform = await runWithAllMetrics();
  await using staging = await run();
  await using server = await prometheus(scraping({ platform, staging }));
  const wrong = ['platform PatchgateCredentialFailing', 'platform PatchgateReloadFailed'];
  await until('both are found, and nothing else', async () => (await alertsIn(server)).join() === wrong.join());
  const throttled = 'patchgate_upstream_throttled_total{account="main"}';
  await until('both gateways have been scraped', async () => (await server.count(throttled)) === 2);
  const rules = await server.rules();
  expect(rules.length).toBeGreaterThan(40);
  expect(rules.filter(({ health }) => health !== 'ok')).toEqual([]);

  const fault = { kind: 'status', status: 429, headers: { 'Retry-After': '0' }, body: '' } as const;
  staging.simulator.fault({ match: 'GET /api/v1/flow-runs', times: 1, fault });
  await (await staging.fetch('/api/v1/flow-runs')).arrayBuffer();
  await platform.reload((upstream) => configuration(upstream));
  const now = ['platform PatchgateCredentialFailing', 'staging PatchgateUpstreamThrottled'];
  await until('the reload is well, and the 429 is seen', async () => (await alertsIn(server)).join() === now.join());
}, 60_000);
