import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { dashboardFiles } from '../../scripts/dashboards/render.mjs';
import { dashboards, FOLDER, type Panel, queriesOf } from '../support/dashboards.ts';

/** A ConfigMap holds 1 MiB, all three and what Helm adds. */
const MOST_BYTES = 200_000;

const read = (path: string) => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

it('the files are what scripts/dashboards makes: npm run generate', () => {
  const made = dashboardFiles();
  expect(dashboards().map(([file]) => file)).toEqual(Object.keys(made).sort());
  for (const [file, text] of Object.entries(made)) {
    expect(readFileSync(`${FOLDER}/${file}`, 'utf8') === text, file).toBe(true);
    expect(Buffer.byteLength(text), file).toBeLessThan(MOST_BYTES);
  }
});

it('each has an address of its own that stays', () => {
  expect(dashboards().map(([, { uid }]) => uid)).toEqual([
    'patchgate-infrastructure',
    'patchgate-overview',
    'patchgate-tenant',
  ]);
});

describe.each(dashboards())('%s', (file, dashboard) => {
  const shown = dashboard.panels.filter(({ type }) => type !== 'row');

  it('works with any data source: none is written into it, and nothing is asked for at import', () => {
    expect(readFileSync(`${FOLDER}/${file}`, 'utf8')).not.toContain('__inputs');
    for (const { target } of queriesOf(dashboard)) expect(target.datasource.uid).toBe('${datasource}');
    for (const variable of dashboard.templating.list) {
      if (variable.type === 'query') expect(variable).toHaveProperty('datasource.uid', '${datasource}');
    }
    for (const mark of dashboard.annotations.list) expect(mark).toHaveProperty('datasource.uid', '${datasource}');
  });

  it('is in the form of Grafana 12 and later, and no instance has put its own id into it', () => {
    expect(dashboard.schemaVersion).toBe(42);
    expect(dashboard).not.toHaveProperty('id');
    expect(dashboard.tags).toEqual(['patchgate']);
  });

  it('uses no variable that it does not have', () => {
    const own = dashboard.templating.list.map(({ name }) => name);
    const text = JSON.stringify([dashboard.panels, dashboard.templating, dashboard.annotations]);
    const used = [...text.matchAll(/\$(?:\{(\w+)[:}]|([a-z]\w*))/g)].map(([, braced, plain]) => braced ?? plain ?? '');
    const lacking = used.filter((name) => !name.startsWith('__') && !own.includes(name));
    expect(lacking).toEqual([]);
  });

  it('has panels with an id of their own, side by side within 24 columns', () => {
    const ids = dashboard.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [i, panel] of dashboard.panels.entries()) {
      expect(panel.gridPos.x + panel.gridPos.w).toBeLessThanOrEqual(24);
      for (const other of dashboard.panels.slice(i + 1)) {
        expect(overlap(panel, other), `${panel.title} and ${other.title}`).toBe(false);
      }
    }
  });

  it('says of each panel what it is, in which unit, and what to do', () => {
    for (const { title, description = '', fieldConfig, targets = [] } of shown) {
      expect(title).not.toBe('');
      expect(description.length, title).toBeGreaterThan(60);
      expect(fieldConfig?.defaults.unit, title).toEqual(expect.any(String));
      expect(fieldConfig?.defaults.min, title).toBe(0);
      expect(targets.length, title).toBeGreaterThan(0);
      expect(new Set(targets.map(({ refId }) => refId)).size, title).toBe(targets.length);
      for (const { legendFormat } of targets) expect(legendFormat, title).not.toBe('');
    }
  });

  it('looks only at the deployment and the replicas that are chosen', () => {
    for (const { panel, target } of queriesOf(dashboard)) {
      const selectors = target.expr.match(/\bpatchgate_\w+(\{[^}]*\})?/g) ?? [];
      for (const selector of selectors) expect(selector, panel.title).toContain('namespace=~"$namespace",job=~"$job"');
      expect(target.expr, panel.title).toContain('instance=~"$instance"');
    }
  });
});

it('Grafana is configured with the places of Prometheus and the dashboards', () => {
  const sources = parse(read('deploy/grafana/provisioning/datasources/prometheus.yaml'));
  expect(sources).toMatchObject({ apiVersion: 1, datasources: [{ type: 'prometheus', isDefault: true }] });
  const providers = parse(read('deploy/grafana/provisioning/dashboards/patchgate.yaml'));
  expect(providers).toMatchObject({
    apiVersion: 1,
    providers: [{ type: 'file', options: { path: expect.any(String) } }],
  });
});

function overlap({ gridPos: a }: Panel, { gridPos: b }: Panel): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}
