import { createHash } from 'node:crypto';
import { basename, dirname, isAbsolute, join } from 'node:path';
import type { z } from 'zod';
import { systemClock } from '../clock.ts';
import { buildSettings } from './build.ts';
import { interpolate, withoutInserted } from './interpolate.ts';
import { problemsOf } from './issues.ts';
import { readOptionFiles } from './option-files.ts';
import { createFileReaders, type ReadFile, reasonOf } from './read-file.ts';
import { type GatewayInput, gatewaySchema, logLevel } from './schema.ts';
import type { Settings } from './settings.ts';
import { type TenantInput, tenantsFileSchema } from './tenant-schema.ts';
import { type Problem, parseYaml, type Source } from './yaml-source.ts';

export interface LoadOptions {
  readonly path: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly readFile?: ReadFile;
}

export type Loaded =
  | {
      readonly ok: true;
      readonly settings: Settings;
      readonly warnings: readonly string[];
      readonly files: readonly string[];
    }
  | { readonly ok: false; readonly problems: readonly Problem[] };

interface Parsed<T> {
  readonly source: Source;
  readonly text: string;
  /** Interpolated, and not validated. */
  readonly value: unknown;
  readonly input: T | null;
  readonly problems: readonly Problem[];
  readonly fromFiles: readonly string[];
  readonly inserted: readonly string[];
}

/** Without `source` there is nothing that could be checked further. */
type Read<T> = Parsed<T> | { readonly problems: readonly Problem[] };

/** Reads, interpolates and validates the files. Returns all problems at once; with any problem nothing is loaded. */
export async function loadSettings(options: LoadOptions): Promise<Loaded> {
  const { path, env, readFile = createFileReaders({ clock: systemClock })() } = options;
  const gateway = await read(path, gatewaySchema, env, readFile);
  if (!('source' in gateway)) return { ok: false, problems: gateway.problems };
  const named = await readOptionFiles(gateway.value, gateway.source, readFile);
  const level = logLevel.optional().safeParse(env['LOG_LEVEL'] || undefined);
  const tenants = await readTenants(gateway, path, (file) => read(file, tenantsFileSchema, env, readFile));
  const parts = 'source' in tenants && tenants.source !== gateway.source ? [gateway, tenants] : [gateway];
  const refused = (problems: readonly Problem[]): Loaded => {
    const inserted = parts.flatMap((part) => part.inserted);
    return { ok: false, problems: withoutInserted(sorted(problems), inserted) };
  };
  const problems = [...gateway.problems, ...named.problems, ...tenants.problems];
  if (!level.success) {
    const message = level.error.issues[0]?.message ?? '';
    problems.push({ file: 'environment', line: null, path: 'LOG_LEVEL', message });
  }
  if (!('source' in tenants) || gateway.input === null || tenants.input === null || problems.length > 0)
    return refused(problems);

  const built = buildSettings({
    gateway: gateway.input,
    gatewaySource: gateway.source,
    tenants: tenants.input.tenants,
    tenantsSource: tenants.source,
    fromFiles: parts.flatMap(({ fromFiles }) => fromFiles),
    named,
    logLevel: level.data,
    revision: createHash('sha256')
      .update(parts.map(({ text }) => text).join('\0'))
      .digest('hex')
      .slice(0, 12),
    now: Date.now(),
  });
  if (built.problems.length > 0) return refused(built.problems);
  const { settings, warnings } = built;
  return { ok: true, settings, warnings, files: parts.map(({ source }) => source.file) };
}

/** Renders one problem a line: `gateway.yaml:12: limits.bdy: unknown option; did you mean "body"?`. */
export function renderProblems(problems: readonly Problem[]): string {
  const lines = problems.map(({ file, line, path, message }) => {
    const where = line === null ? file : `${file}:${line}`;
    return path === '' ? `${where}: ${message}` : `${where}: ${path}: ${message}`;
  });
  const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
  return [...lines, `${count} in the configuration; nothing was started`].join('\n');
}

async function read<S extends z.ZodType>(
  path: string,
  schema: S,
  env: LoadOptions['env'],
  readFile: ReadFile,
): Promise<Read<z.output<S>>> {
  const wrong = (message: string) => ({ problems: [{ file: path, line: null, path: '', message }] });
  let text: string;
  try {
    text = await readFile(path);
  } catch (error) {
    return wrong(`cannot be read: ${reasonOf(error)}`);
  }
  const parsed = parseYaml(path, text);
  if (!('source' in parsed)) return parsed;
  const { source } = parsed;
  if (typeof source.value !== 'object' || source.value === null || Array.isArray(source.value))
    return wrong(source.value === null ? 'is empty' : 'must be a map of options');
  const interpolated = await interpolate(source, env, readFile);
  const checked = schema.safeParse(interpolated.value);
  const found = checked.success ? [] : problemsOf(checked.error.issues, source, schema);
  // A value whose interpolation failed is one problem, not two.
  const failed = new Set(interpolated.problems.map((problem) => problem.path));
  const problems = [...interpolated.problems, ...found.filter((problem) => !failed.has(problem.path))];
  return { ...interpolated, source, text, input: checked.success ? checked.data : null, problems };
}

type Tenants = { tenants: Record<string, TenantInput> };

/** Reads tenants from their own file or from the gateway's file. Both together are an error: neither would clearly win. */
async function readTenants(
  gateway: Parsed<GatewayInput>,
  path: string,
  readFrom: (path: string) => Promise<Read<Tenants>>,
): Promise<Read<Tenants>> {
  const raw = gateway.source.value as Record<string, unknown>;
  if (raw['tenants'] === undefined) return readFrom(tenantsPath(gateway.value, path));
  if (raw['tenantsFile'] !== undefined)
    return { problems: [gateway.source.problem(['tenantsFile'], 'give either tenants or tenantsFile, not both')] };
  const tenants = gateway.input?.tenants;
  return { ...gateway, input: tenants === undefined ? null : { tenants }, problems: [] };
}

/** @param value of the gateway's file, interpolated; it may be invalid */
function tenantsPath(value: unknown, path: string): string {
  const file = String((value as Record<string, unknown>)['tenantsFile'] ?? 'tenants.yaml');
  return isAbsolute(file) ? file : join(dirname(path), file);
}

/** Finds the file that has the tenants, for those who edit it: that of the gateway, or the one that it names. It need not exist. */
export async function locateTenants(
  path: string,
  env: LoadOptions['env'],
  readFile: ReadFile,
): Promise<{ readonly file: string } | { readonly problems: readonly Problem[] }> {
  const gateway = await read(path, gatewaySchema, env, readFile);
  if (!('source' in gateway)) return gateway;
  const hasTenants = (gateway.source.value as Record<string, unknown>)['tenants'] !== undefined;
  return { file: hasTenants ? path : tenantsPath(gateway.value, path) };
}

function sorted(problems: readonly Problem[]): Problem[] {
  return [...problems].sort(
    (a, b) => basename(a.file).localeCompare(basename(b.file)) || (a.line ?? 0) - (b.line ?? 0),
  );
}
