import { createHash } from 'node:crypto';
import { basename, dirname, isAbsolute, join } from 'node:path';
import type { z } from 'zod';
import { systemClock } from '../clock.ts';
import { buildSettings } from './build.ts';
import { readIssuers } from './identity-settings.ts';
import { interpolate, withoutInserted } from './interpolate.ts';
import { problemsOf } from './issues.ts';
import { createFileReaders, type ReadFile, reasonOf } from './read-file.ts';
import { type GatewayInput, gatewaySchema, logLevel } from './schema.ts';
import type { Settings } from './settings.ts';
import { type TenantInput, tenantsFileSchema } from './tenant-schema.ts';
import { readTls } from './tls.ts';
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
  /** Interpolated, and not validated. */
  readonly value: unknown;
  readonly input: T | null;
  readonly problems: readonly Problem[];
  readonly fromFiles: readonly string[];
  readonly inserted: readonly string[];
}

/** Reads, interpolates and validates the files. Returns all problems at once; with any problem nothing is loaded. */
export async function loadSettings(options: LoadOptions): Promise<Loaded> {
  const inserted: string[] = [];
  const loaded = await load(options, inserted);
  if (loaded.ok) return loaded;
  return { ok: false, problems: withoutInserted(loaded.problems, inserted) };
}

async function load(options: LoadOptions, inserted: string[]): Promise<Loaded> {
  const readFile: ReadFile = options.readFile ?? createFileReaders({ clock: systemClock })();
  const texts: string[] = [];
  const read = async <S extends z.ZodType>(
    path: string,
    schema: S,
  ): Promise<Parsed<z.output<S>> | { problems: readonly Problem[] }> => {
    let text: string;
    try {
      text = await readFile(path);
    } catch (error) {
      return { problems: [{ file: path, line: null, path: '', message: `cannot be read: ${reasonOf(error)}` }] };
    }
    texts.push(text);
    const parsed = await parse(path, text, schema, options.env, readFile);
    if ('source' in parsed) inserted.push(...parsed.inserted);
    return parsed;
  };

  const gateway = await read(options.path, gatewaySchema);
  if (!('source' in gateway)) return { ok: false, problems: gateway.problems };
  const tls = await readTls(gateway.value, gateway.source, readFile);
  const issuers = await readIssuers(gateway.value, gateway.source, readFile);
  const level = logLevel.optional().safeParse(options.env['LOG_LEVEL'] || undefined);
  const problems: Problem[] = [
    ...gateway.problems,
    ...tls.problems,
    ...issuers.problems,
    ...(level.success
      ? []
      : [{ file: 'environment', line: null, path: 'LOG_LEVEL', message: level.error.issues[0]?.message ?? '' }]),
  ];
  const tenants = await readTenants(gateway, options.path, (path) => read(path, tenantsFileSchema));
  if (!('source' in tenants)) return { ok: false, problems: [...problems, ...tenants.problems] };
  problems.push(...tenants.problems);
  if (gateway.input === null || tenants.input === null || problems.length > 0)
    return { ok: false, problems: sorted(problems) };

  const built = buildSettings({
    gateway: gateway.input,
    gatewaySource: gateway.source,
    tenants: tenants.input.tenants,
    tenantsSource: tenants.source,
    fromFiles: [...gateway.fromFiles, ...tenants.fromFiles],
    tls,
    issuers: issuers.issuers,
    logLevel: level.data,
    revision: createHash('sha256').update(texts.join('\0')).digest('hex').slice(0, 12),
    now: Date.now(),
  });
  if (built.problems.length > 0) return { ok: false, problems: sorted(built.problems) };
  const files = gateway.source === tenants.source ? [options.path] : [options.path, tenants.source.file];
  return { ok: true, settings: built.settings, warnings: built.warnings, files };
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

async function parse<S extends z.ZodType>(
  path: string,
  text: string,
  schema: S,
  env: LoadOptions['env'],
  readFile: ReadFile,
): Promise<Parsed<z.output<S>> | { problems: readonly Problem[] }> {
  const parsed = parseYaml(path, text);
  if (!('source' in parsed)) return parsed;
  const { source } = parsed;
  if (typeof source.value !== 'object' || source.value === null || Array.isArray(source.value)) {
    const message = source.value === null ? 'is empty' : 'must be a map of options';
    return { problems: [{ file: path, line: null, path: '', message }] };
  }
  const interpolated = await interpolate(source, env, readFile);
  const checked = schema.safeParse(interpolated.value);
  const found = checked.success ? [] : problemsOf(checked.error.issues, source, schema);
  // A value whose interpolation failed is one problem, not two.
  const failed = new Set(interpolated.problems.map((problem) => problem.path));
  const problems = [...interpolated.problems, ...found.filter((problem) => !failed.has(problem.path))];
  const { fromFiles, inserted } = interpolated;
  return {
    source,
    value: interpolated.value,
    input: checked.success ? checked.data : null,
    problems,
    fromFiles,
    inserted,
  };
}

type Tenants = { tenants: Record<string, TenantInput> };

/** Reads tenants from their own file or from the gateway's file. Both together are an error: neither would clearly win. */
async function readTenants(
  gateway: Parsed<GatewayInput>,
  path: string,
  read: (path: string) => Promise<Parsed<Tenants> | { problems: readonly Problem[] }>,
): Promise<Parsed<Tenants> | { problems: readonly Problem[] }> {
  const raw = gateway.source.value as Record<string, unknown>;
  const inline = raw['tenants'] !== undefined;
  if (inline && raw['tenantsFile'] !== undefined) {
    const line = gateway.source.lineOf(['tenantsFile']);
    return {
      problems: [{ file: path, line, path: 'tenantsFile', message: 'give either tenants or tenantsFile, not both' }],
    };
  }
  if (inline) {
    const tenants = gateway.input?.tenants;
    return { ...gateway, input: tenants === undefined ? null : { tenants }, problems: [] };
  }
  return read(tenantsPath(gateway.value, path));
}

/** @param value of the gateway's file, interpolated; it may be invalid */
function tenantsPath(value: unknown, path: string): string {
  const file = String((value as Record<string, unknown>)['tenantsFile'] ?? 'tenants.yaml');
  return isAbsolute(file) ? file : join(dirname(path), file);
}

/** Finds the file that has the tenants, for those who edit it: that of the gateway, or the one that it names. It need not exist. */
export async function locateTenants(
  options: LoadOptions & { readonly readFile: ReadFile },
): Promise<
  { readonly ok: true; readonly file: string } | { readonly ok: false; readonly problems: readonly Problem[] }
> {
  const { path, env, readFile } = options;
  let text: string;
  try {
    text = await readFile(path);
  } catch (error) {
    return {
      ok: false,
      problems: [{ file: path, line: null, path: '', message: `cannot be read: ${reasonOf(error)}` }],
    };
  }
  const parsed = await parse(path, text, gatewaySchema, env, readFile);
  if (!('source' in parsed)) return { ok: false, problems: parsed.problems };
  const hasTenants = (parsed.source.value as Record<string, unknown>)['tenants'] !== undefined;
  return { ok: true, file: hasTenants ? path : tenantsPath(parsed.value, path) };
}

function sorted(problems: readonly Problem[]): Problem[] {
  return [...problems].sort(
    (a, b) => basename(a.file).localeCompare(basename(b.file)) || (a.line ?? 0) - (b.line ?? 0),
  );
}
