import { readFile } from 'node:fs/promises';
import type { StatusDocument } from '../admin/status/document.ts';
import { loadSettings, renderProblems } from '../config/load.ts';
import { parseDuration } from '../config/option-types.ts';
import { aligned, DEFAULT_CONFIG, failed, type Io, say } from './command-line.ts';

interface ListOptions {
  readonly config: string | undefined;
  readonly unused: string | undefined;
  readonly admin: string | undefined;
  readonly 'token-file': string | undefined;
  readonly json: boolean | undefined;
}

/** The last use is known to a running gateway only. */
interface ListedKey {
  readonly tenant: string;
  readonly id: string;
  readonly expires: string | null;
  readonly lastUsed?: string | null;
  readonly unusedForMs?: number;
}

/** A gateway answers at once; 10,000 tenants take a moment. */
const TIMEOUT_MS = 10_000;

/** `patchgate key list`: from the configuration, or with the last use from a running gateway. */
export async function listKeys(options: ListOptions, io: Io): Promise<number> {
  const { unused, admin } = options;
  const unusedMs = unused === undefined ? 0 : parseDuration(unused);
  if (unusedMs === null) return failed(io, 'key', '--unused must be a duration such as 30d', 2);
  if (unused !== undefined && admin === undefined) {
    return failed(io, 'key', '--unused needs --admin: only a running gateway knows when keys were used', 2);
  }
  const keys =
    admin === undefined
      ? await configuredKeys(options.config ?? DEFAULT_CONFIG, io)
      : await runningKeys(admin, options, io);
  if (typeof keys === 'string') return failed(io, 'key', keys);
  const shown = keys.filter(({ unusedForMs = 0 }) => unusedForMs >= unusedMs);
  if (options.json) say(io.stdout, JSON.stringify(shown));
  else for (const line of tableOf(shown, admin !== undefined)) say(io.stdout, line);
  return 0;
}

/** A text is the reason why there are none. */
async function configuredKeys(path: string, io: Io): Promise<ListedKey[] | string> {
  const loaded = await loadSettings({ path, env: io.env });
  if (!loaded.ok) return renderProblems(loaded.problems);
  return [...loaded.settings.tenants.values()].flatMap(({ id: tenant, keys }) =>
    keys.map(({ id, expiresAtMs }) => ({ tenant, id, expires: isoOf(expiresAtMs) })),
  );
}

async function runningKeys(
  admin: string,
  { 'token-file': tokenFile }: ListOptions,
  io: Io,
): Promise<ListedKey[] | string> {
  if (!URL.canParse('/status', admin)) return '--admin must be a URL such as http://127.0.0.1:9090';
  const url = new URL('/status', admin);
  try {
    const token = tokenFile === undefined ? io.env['ADMIN_TOKEN'] : (await readFile(tokenFile, 'utf8')).trim();
    const response = await fetch(url, {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      // The token is for this host only.
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (response.status === 401) return `${url} needs its token: set ADMIN_TOKEN, or use --token-file`;
    if (!response.ok) return `${url} answered ${response.status}`;
    const { tenants } = (await response.json()) as StatusDocument;
    return Object.entries(tenants).flatMap(([tenant, { keys }]) =>
      keys.map(({ id, expires, lastUsed, unusedForMs }) => ({ tenant, id, expires, lastUsed, unusedForMs })),
    );
  } catch (error) {
    const { message, cause } = error as Error;
    return `${url} cannot be read: ${cause instanceof Error ? cause.message : message}`;
  }
}

function tableOf(keys: readonly ListedKey[], withUse: boolean): string[] {
  const rows = keys.map(({ tenant, id, expires, lastUsed }) => [
    ...[tenant, id, expires ?? 'never'],
    ...(withUse ? [lastUsed ?? 'not known'] : []),
  ]);
  const head = ['TENANT', 'KEY', 'EXPIRES', ...(withUse ? ['LAST USED'] : [])];
  return aligned([head, ...rows], (cell, width) => cell.padEnd(width));
}

function isoOf(atMs: number | null): string | null {
  return atMs === null ? null : new Date(atMs).toISOString().replace(/\.\d+Z$/, 'Z');
}
