import { stat } from 'node:fs/promises';
import { loadSettings, renderProblems } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { type LinesRead, type LogFile, LogFileError, logFile, readRequests } from '../plan/log-files.ts';
import { type PlanReport, replay } from '../plan/replay.ts';
import type { Comparison, UsageReport } from '../plan/usage.ts';
import { aligned, CONFIG_OPTION, DEFAULT_CONFIG, failed, type Io, readOptions, say } from './command-line.ts';

const HELP = `usage: patchgate plan --log FILE... [--config NEW.yaml] [--json]

Replays the requests of access logs with a configuration, in virtual time, through the code that decides about quota, cache
and budgets. Prints for each tenant and account what was recorded beside what is predicted. It starts nothing and sends nothing.

  --log FILE...            logs of all replicas, plain or gzip; - is standard input
  -c PATH, --config PATH   the configuration to try (default: ${DEFAULT_CONFIG})
  --json                   for scripts

Exit code 0: there is a prediction. 1: the configuration is not valid, or no request could be read. 2: wrong arguments.
`;

const OPTIONS = { ...CONFIG_OPTION, log: { type: 'string', multiple: true }, json: { type: 'boolean' } } as const;

/** `patchgate plan`. */
export async function plan(args: string[], io: Io): Promise<number> {
  const options = readOptions('plan', args, OPTIONS, HELP, io, true);
  if (!options.ok) return options.code;
  const { config = DEFAULT_CONFIG, log = [], json = false } = options.values;
  const names = [...log, ...options.positionals];
  if (log.length === 0) {
    return failed(io, 'plan', 'name the logs with --log FILE...; see patchgate plan --help', 2);
  }
  if (new Set(names).size < names.length) {
    return failed(io, 'plan', 'a log is named twice: its requests would count twice', 2);
  }
  const loaded = await loadSettings({ path: config, env: io.env });
  if (!loaded.ok) {
    say(io.stderr, renderProblems(loaded.problems));
    return 1;
  }
  const stdin = { name: 'standard input', open: () => io.stdin, bytesRead: () => 0 };
  const files = names.map((name) => (name === '-' ? stdin : logFile(name)));
  const read: LinesRead = { lines: 0, requests: 0, other: 0, unreadable: 0, examples: [] };
  const progress = await openProgress(names, files, io);
  let report: PlanReport | null;
  try {
    report = await replay(loaded.settings, readRequests(files, read), progress.show);
  } catch (error) {
    if (!(error instanceof LogFileError)) throw error;
    progress.end();
    return failed(io, 'plan', `${error.message}`);
  }
  progress.end();
  for (const warning of loaded.warnings) say(io.stderr, `warning: ${warning}`);
  for (const line of unreadableLines(read)) say(io.stderr, line);
  if (report === null) {
    const found = `${read.lines} lines, ${read.requests} of them about a request`;
    return failed(io, 'plan', `no request of a tenant in ${names.join(', ')}: ${found}; is log.access all?`);
  }
  if (json) say(io.stdout, JSON.stringify({ ...report, lines: read }));
  else for (const line of planTable(report, loaded.settings)) say(io.stdout, line);
  return 0;
}

function unreadableLines({ unreadable, examples }: LinesRead): string[] {
  if (unreadable === 0) return [];
  const named = examples.map(({ file, line, reason }) => `  ${file}:${line}: ${reason}`);
  const more = unreadable - examples.length;
  return [
    `warning: ${unreadable} lines could not be read, and their requests are missing:`,
    ...named,
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

const BAR_WIDTH = 30;

/** A bar on a terminal. It measures what was read of the files; standard input has no known size. */
async function openProgress(names: readonly string[], files: readonly LogFile[], io: Io) {
  const isTerminal = 'isTTY' in io.stderr && io.stderr.isTTY === true;
  if (!isTerminal) return { show: () => {}, end: () => {} };
  const sizes = await Promise.all(names.map((name) => (name === '-' ? null : sizeOf(name))));
  const total = sizes.includes(null) ? null : sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  return {
    show: (requests: number): void => {
      const bytes = files.reduce((sum, each) => sum + each.bytesRead(), 0);
      const share = total ? Math.min(1, bytes / total) : null;
      const filled = Math.round((share ?? 0) * BAR_WIDTH);
      const bar =
        share === null ? '' : `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}] ${Math.floor(share * 100)} %, `;
      io.stderr.write(`\r${bar}${requests.toLocaleString('en')} requests\x1b[K`);
    },
    end: (): void => void io.stderr.write('\r\x1b[K'),
  };
}

/** Null for what has no size; reading it will say why. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch {
    return null;
  }
}

/** For people: a block for each tenant and account, with what was recorded beside what is predicted. */
function planTable({ from, to, tenants, accounts }: PlanReport, settings: Settings): string[] {
  const rows: Row[] = [['', 'recorded', 'predicted']];
  for (const [name, both] of Object.entries(tenants)) {
    const note = settings.tenants.has(name) ? '' : ' (not in the configuration)';
    rows.push([`tenant ${name}${note}`, '', ''], ...rowsOf(both));
  }
  for (const [name, both] of Object.entries(accounts)) rows.push([`account ${name}`, '', ''], ...rowsOf(both));
  return [`requests from ${from} to ${to}`, '', ...aligned(rows, (cell, width) => cell.padStart(width))];
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
