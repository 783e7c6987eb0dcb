import type { Settings } from '../config/settings.ts';
import type { PlanReport } from '../plan/replay.ts';
import type { Comparison, UsageReport } from '../plan/usage.ts';

/** For people: a block for each tenant and account, with what was recorded beside what is predicted. */
export function planTable({ from, to, tenants, accounts }: PlanReport, settings: Settings): string[] {
  const rows: Row[] = [['', 'recorded', 'predicted']];
  for (const [name, both] of Object.entries(tenants)) {
    const note = settings.tenants.has(name) ? '' : ' (not in the configuration)';
    rows.push([`tenant ${name}${note}`, '', ''], ...rowsOf(both));
  }
  for (const [name, both] of Object.entries(accounts)) rows.push([`account ${name}`, '', ''], ...rowsOf(both));
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  const lines = rows.map(([name, ...values]) =>
    [name.padEnd(widths[0] ?? 0), ...values.map((value, at) => value.padStart(widths[at + 1] ?? 0))]
      .join('  ')
      .trimEnd(),
  );
  return [`requests from ${from} to ${to}`, '', ...lines];
}

type Row = readonly [name: string, recorded: string, predicted: string];

function rowsOf({ recorded, predicted }: Comparison): Row[] {
  const row = (name: string, of: (usage: UsageReport) => string): Row => [`  ${name}`, of(recorded), of(predicted)];
  const codes = [...new Set([recorded, predicted].flatMap(({ rejections }) => Object.keys(rejections)))].sort();
  return [
    row('requests', ({ requests }) => count(requests)),
    ...codes.map((code) => row(`rejected: ${code}`, ({ rejections }) => count(rejections[code] ?? 0))),
    row('wait, p50', ({ waitMs }) => duration(waitMs.p50)),
    row('wait, p95', ({ waitMs }) => duration(waitMs.p95)),
    row('upstream requests', ({ upstreamRequests }) => count(upstreamRequests)),
    ...Object.entries(predicted.budgets ?? {}).flatMap(([id, { limit, period, used }]) => {
      if (limit === null && used === 0 && recorded.budgets?.[id]?.used === 0) return [];
      const of = limit === null ? '' : ` of ${count(limit)}`;
      return [row(`budget ${id}, ${period}`, ({ budgets }) => `${count(budgets?.[id]?.used ?? 0)}${of}`)];
    }),
  ];
}

function count(value: number): string {
  return value.toLocaleString('en');
}

function duration(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}
