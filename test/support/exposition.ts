import { spawnSync } from 'node:child_process';

/** The parsed lines of /metrics. */
export interface Exposition {
  readonly text: string;
  /** Names with their types. */
  readonly families: ReadonlyMap<string, string>;
  /** Samples by their text, such as `name{label="value"}`. */
  readonly series: ReadonlyMap<string, number>;
  /** Sum over the series of a name that carry these labels; null where there are none. */
  sum(name: string, labels?: Readonly<Record<string, string>>): number | null;
}

export async function scrape(adminUrl: string): Promise<Exposition> {
  const response = await fetch(`${adminUrl}/metrics`);
  if (response.status !== 200) throw new Error(`/metrics answers ${response.status}`);
  const text = await response.text();
  const families = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name!, type!]));
  const series = new Map(
    [...text.matchAll(/^([a-z].*) (\S+)$/gm)].map(([, sample, value]) => [sample!, Number(value)]),
  );
  const sum: Exposition['sum'] = (name, labels = {}) => {
    const found = [...series].filter(
      ([sample]) =>
        (sample === name || sample.startsWith(`${name}{`)) &&
        Object.entries(labels).every(([label, value]) => sample.includes(`${label}="${value}"`)),
    );
    return found.length === 0 ? null : found.reduce((total, [, value]) => total + value, 0);
  };
  return { text, families, series, sum };
}

/** Runs promtool; what it says on both streams, with its exit code. */
export function promtool(args: readonly string[], input = ''): { readonly code: number | null; readonly said: string } {
  const { status, stdout, stderr, error } = spawnSync('promtool', [...args], { input, encoding: 'utf8' });
  if (error !== undefined) throw error;
  return { code: status, said: `${stdout}${stderr}`.trim() };
}
