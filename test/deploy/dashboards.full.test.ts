import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dashboards, queriesOf } from '../support/dashboards.ts';
import { QUOTAS } from './rig/configuration.mjs';
import { openStage, type Stage } from './rig/stage.mjs';
import { everythingHappens } from './rig/story.mjs';

const SCRAPE_MS = 500;
/** Values that Grafana puts in place of its variables; the windows hold the whole run. */
const FILLED_IN: Record<string, string> = {
  $__rate_interval: '120s',
  $__interval: '1s',
  $__range: '120s',
  $namespace: '.*',
  $job: '.*',
  $instance: '.*',
  $account: '.*',
  $tenant: 'orders|trial',
};
const TENANTS = ['billing', 'exports', 'legacy', 'orders', 'reports', 'storefront', 'trial'];

let stage: Stage;
let range: { from: number; to: number; step: number };

beforeAll(async () => {
  const latency = { kind: 'exponential', minMs: 20, meanMs: 80, maxMs: 800 } as const;
  stage = await openStage({ env: process.env, quota: 'wide', secondAccount: true, scrapeMs: SCRAPE_MS, latency });
  const from = Date.now() / 1000;
  await everythingHappens(stage, SCRAPE_MS, async () => {
    const sofar = { from, to: Date.now() / 1000, step: SCRAPE_MS / 1000 };
    // A replica is lost last of all.
    const asked = dashboards().flatMap(([, dashboard]) => queriesOf(dashboard).map(({ target }) => target.expr));
    const seen = asked.filter((expr) => !expr.includes('== bool 0')).map((expr) => greatest(filledIn(expr), sofar));
    return (await Promise.all(seen)).every((value) => value > 0);
  });
  range = { from, to: Date.now() / 1000, step: SCRAPE_MS / 1000 };
}, 300_000);
afterAll(() => stage?.close());

async function greatest(query: string, over: typeof range): Promise<number> {
  const series = await stage.prometheus.overTime(query, over);
  return Math.max(...series.flatMap(({ values }) => values.map(([, value]) => value)).filter(Number.isFinite));
}

function filledIn(text: string, more: Record<string, string> = {}): string {
  const all = { ...FILLED_IN, ...more };
  return text.replace(/\$\w+/g, (name) => all[name] ?? name);
}

/** As Grafana writes it; a label that is not there stays as it was. */
function legendOf(template: string, labels: Record<string, string>): string {
  return template.replace(/\{\{(\w+)\}\}/g, (whole, name) => labels[name] ?? whole);
}

/** The median: half of the requests are decided at once. */
const MAY_BE_ZERO: ReadonlySet<string> = new Set(['Wait for a slot (A)']);

describe.each(dashboards())('%s', (_file, dashboard) => {
  it.each(queriesOf(dashboard).map(({ panel, target }) => [`${panel.title} (${target.refId})`, target] as const))(
    '%s shows what has happened',
    async (title, target) => {
      const query = filledIn(target.expr);
      const [now, overTime] = await Promise.all([
        stage.prometheus.now(query, range.to),
        stage.prometheus.overTime(query, range),
      ]);
      expect(now, 'at the end').not.toEqual([]);
      expect(now.flatMap(({ values }) => values.map(([, value]) => value)).filter(isNotFinite)).toEqual([]);
      const seen = overTime.flatMap(({ values }) => values.map(([, value]) => value));
      expect(seen.filter((value) => Math.abs(value) === Number.POSITIVE_INFINITY)).toEqual([]);
      if (!MAY_BE_ZERO.has(title)) expect(await greatest(query, range), 'the greatest').toBeGreaterThan(0);
      // A table shows the labels themselves.
      if (target.format === 'table') return;
      const legends = now.map(({ metric }) => legendOf(target.legendFormat, metric));
      expect(legends.filter((legend) => legend.includes('{{'))).toEqual([]);
      expect(new Set(legends).size, `all differ: ${legends}`).toBe(legends.length);
    },
  );

  it('each variable offers what there is', async () => {
    const offered = await Promise.all(
      dashboard.templating.list.map(async ({ name, type, query }) => {
        if (type === 'datasource') return [name, query] as const;
        const text = filledIn(typeof query === 'string' ? query : query.query);
        const [, selector = '', label = ''] = /^label_values\((.+), (\w+)\)$/s.exec(text) ?? [];
        return [name, (await stage.prometheus.labelValues(label, selector)).sort()] as const;
      }),
    );
    const instances = await stage.prometheus.labelValues('instance', 'up{job="patchgate"}');
    const known: Record<string, unknown> = {
      datasource: 'prometheus',
      namespace: ['rig'],
      job: ['patchgate'],
      account: ['exports', 'main'],
      instance: instances.sort(),
      tenant: TENANTS,
    };
    expect(instances).toHaveLength(2);
    expect(Object.fromEntries(offered)).toEqual(Object.fromEntries(offered.map(([name]) => [name, known[name]])));
  });

  it('each mark is there', async () => {
    for (const { name, expr } of dashboard.annotations.list) {
      expect(await stage.prometheus.now(filledIn(expr), range.to), name).not.toEqual([]);
    }
  });

  it('every metric it asks for exists', async () => {
    const known = new Set(await stage.prometheus.labelValues('__name__', '{job=~".+"}'));
    const asked = queriesOf(dashboard).flatMap(({ target }) => target.expr.match(/\b[a-z_]+(?=[{[])/g) ?? []);
    expect(asked.length).toBeGreaterThan(10);
    expect(asked.filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('with two replicas', () => {
  const find = (title: string, refId: string) => {
    const found = dashboards()
      .flatMap(([, dashboard]) => queriesOf(dashboard))
      .find(({ panel, target }) => panel.title === title && target.refId === refId);
    if (found === undefined) throw new Error(`no panel ${title}`);
    return found.target.expr;
  };
  const QUOTA = 'Quota: used, ceiling and limit';
  const most = (query: string) => greatest(filledIn(query, { $account: 'main' }), range);

  it('limit, ceiling and slots of an account are counted once', async () => {
    expect(await most(find(QUOTA, 'A'))).toBe(QUOTAS.wide.account.limit);
    expect(await most(find(QUOTA, 'B'))).toBe(QUOTAS.wide.account.ceiling);
    // While Redis answers to both. Of a replica on its own share the slots are added to what the others say, who may know of them still.
    const shared = (query: string) => `(${query}) and on () (max(patchgate_redis_fallback_active) == 0)`;
    const slots = await most(shared(find(QUOTA, 'C')));
    expect(slots).toBeGreaterThan(60);
    expect(slots).toBe(await most(shared('max(patchgate_quota_slots_in_use{account="main"})')));
    const alone = (query: string) => `(${query}) and on () (max(patchgate_redis_fallback_active) == 1)`;
    const seenAlone = await most(
      alone('max(patchgate_quota_slots_in_use{account="main"} * on (instance) patchgate_redis_fallback_active)'),
    );
    expect(await most(alone(find(QUOTA, 'C')))).toBeGreaterThanOrEqual(seenAlone);
    const foreign = await most('max(patchgate_quota_external_usage{account="main"})');
    expect(await most(find('External usage', 'A'))).toBe(foreign);
  });

  it('what each replica has done is added up', async () => {
    const query = 'sum by (instance) (patchgate_http_requests_total)';
    const each = await stage.prometheus.overTime(query, range);
    expect(each).toHaveLength(2);
    const last = each.map(({ values }) => values.at(-1)?.[1] ?? 0);
    const panel = find('Responses by status', 'A')
      .replace(/^60 \* sum by \(status\)/, 'sum')
      .replace(/rate\((.*)\[.*\]\)/, '$1');
    expect(await most(panel)).toBeGreaterThan(Math.max(...last));
  });
});

function isNotFinite(value: number): boolean {
  return !Number.isFinite(value);
}
