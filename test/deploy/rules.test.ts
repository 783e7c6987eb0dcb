import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { problems } from '../../src/problem.ts';
import { promtool, scrape } from '../support/exposition.ts';
import { runWithAllMetrics } from '../support/metrics-gateway.ts';

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const read = (path: string) => readFileSync(at(path), 'utf8');

const RULES = 'deploy/prometheus/rules/patchgate.yaml';
const TESTS = readdirSync(at('deploy/prometheus/tests')).map((name) => `deploy/prometheus/tests/${name}`);

interface Rule {
  readonly alert?: string;
  readonly record?: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface TestFile {
  readonly tests: readonly {
    readonly alert_rule_test?: readonly { readonly alertname: string; readonly exp_alerts?: readonly unknown[] }[];
  }[];
}

const rules = (parse(read(RULES)) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
const alerts = rules.flatMap((rule) => (rule.alert === undefined ? [] : [{ ...rule, alert: rule.alert }]));
const cases = TESTS.flatMap((path) => (parse(read(path)) as TestFile).tests).flatMap(
  (each) => each.alert_rule_test ?? [],
);

describe('promtool', () => {
  test('finds nothing wrong with the rules and the scrape configuration', () => {
    expect(promtool(['check', 'rules', '--lint=all', '--lint-fatal', at(RULES)])).toMatchObject({ code: 0 });
    expect(promtool(['check', 'config', at('deploy/prometheus/prometheus.yaml')])).toMatchObject({ code: 0 });
  });

  test.each(TESTS)(
    'passes %s',
    (path) => {
      const { code, said } = promtool(['test', 'rules', at(path)]);
      expect(said).toMatch(/SUCCESS$/);
      expect(code).toBe(0);
    },
    120_000,
  );
});

describe.each(alerts)('$alert', ({ alert, labels, annotations }) => {
  test('is shown to fire, and not to fire where it must not', () => {
    const own = cases.filter(({ alertname }) => alertname === alert);
    expect(own.some(({ exp_alerts }) => (exp_alerts ?? []).length > 0)).toBe(true);
    expect(own.some(({ exp_alerts }) => (exp_alerts ?? []).length === 0)).toBe(true);
  });

  test('says how urgent it is and what is wrong, and leads to its runbook', () => {
    expect(['critical', 'warning']).toContain(labels?.['severity']);
    expect(annotations?.['summary']).toMatch(/\w/);
    expect(annotations?.['description']).toMatch(/\w/);
    // The operator who installs the rules puts an address in front of `docs/`: see the head of the file.
    expect(annotations?.['runbook_url']).toBe(`docs/operations.md#${alert.toLowerCase()}`);
    expect(read(RULES)).toContain(`\n          runbook_url: docs/operations.md#${alert.toLowerCase()}\n`);
    expect(runbookOf(alert)).toMatch(/\*\*Urgent/);
    for (const part of ['**Look**', '**Do**', '**Over**']) expect(runbookOf(alert)).toContain(part);
  });
});

test('no runbook stands for an alert that is no more', () => {
  const headings = [...read('docs/operations.md').matchAll(/^### (Patchgate\w+)$/gm)].map(([, name]) => name);
  expect(headings.sort()).toEqual(alerts.map(({ alert }) => alert).sort());
});

test('what the rules and runbooks ask for is in the exposition of a real gateway, labels and buckets included', async () => {
  await using gateway = await runWithAllMetrics();
  const { series } = await scrape(gateway.adminUrl);
  const recorded = new Set(rules.flatMap(({ record }) => (record === undefined ? [] : [record])));
  const runbooks = [...read('docs/operations.md').matchAll(/```promql\n(.*?)```/gs)].map(([, text]) => text!);
  const unknown: string[] = [];
  for (const expr of [...rules.map((rule) => rule.expr), ...runbooks]) {
    for (const { name, matchers } of selectorsIn(expr)) {
      if (name === 'up' || recorded.has(name)) continue;
      const found = [...series.keys()].filter((sample) => sample === name || sample.startsWith(`${name}{`));
      const fits = found.some((sample) => matchers.every(({ label, value }) => carries(sample, label, value)));
      if (!fits) unknown.push(`${name}{${matchers.map(({ label, value }) => `${label}~${value}`).join()}}`);
    }
  }
  expect(unknown).toEqual([]);
});

test('the codes that the rules and runbooks name are codes of rejections', () => {
  const text = read(RULES) + read('docs/operations.md');
  const named = [...text.matchAll(/code=~?"([a-z_|]+)"/g)].flatMap(([, codes]) => codes!.split('|'));
  expect(named.filter((code) => !(code in problems))).toEqual([]);
});

test('the lines of the log that the runbooks quote are those of the code', () => {
  const page = read('docs/operations.md');
  const prose = page.slice(page.indexOf('\n## Alerts\n')).replace(/```.*?```/gs, '');
  const quoted = [...prose.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);
  // Neither a command, a request, nor an option with its value.
  const lines = quoted.filter(
    (text) => text.includes(' ') && !/[{<]|^(kill|patchgate|POST|INFO|CLUSTER|[\w.]+: \w+$|\w+: wait)/.test(text),
  );
  const sources = readdirSync(at('src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  const code = sources.map((name) => read(`src/${name}`)).join('\n');
  expect(lines.length).toBeGreaterThan(10);
  expect(lines.filter((line) => !code.includes(`'${line}'`))).toEqual([]);
});

function runbookOf(alert: string): string {
  return new RegExp(`^### ${alert}$(.*?)(?=^##|$(?![^]))`, 'ms').exec(read('docs/operations.md'))?.[1] ?? '';
}

interface Matcher {
  readonly label: string;
  /** Null where any will do, now or later: a code, a status or a decision that did not come up. */
  readonly value: string | null;
}

/** Only these have values that a gateway always shows. */
const ALWAYS_THERE = new Set(['le', 'cache']);
/** Labels that Prometheus adds. */
const OF_THE_TARGET = new Set(['job', 'instance', 'namespace', 'pod']);

function selectorsIn(expr: string): { name: string; matchers: Matcher[] }[] {
  return [
    ...expr.matchAll(/(?<![\w:"])((?:\w+:)?(?:patchgate|nodejs|process)_\w+(?::\w+)?|up)\b(?!\()(?:\{([^}]*)\})?/g),
  ].map(([, name = '', list = '']) => ({
    name,
    matchers: [...list.matchAll(/(\w+)(=~|!=|!~|=)"([^"]*)"/g)]
      .filter(([, label = '']) => !OF_THE_TARGET.has(label))
      .map(([, label = '', operator, value = '']) => ({
        label,
        value: operator === '=' && ALWAYS_THERE.has(label) ? value : null,
      })),
  }));
}

function carries(sample: string, label: string, value: string | null): boolean {
  return value === null ? sample.includes(`${label}="`) : sample.includes(`${label}="${value}"`);
}
