import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Container, PodSpec } from 'kubernetes-types/core/v1.d.ts';
import type { ObjectMeta } from 'kubernetes-types/meta/v1.d.ts';
import { parseAllDocuments } from 'yaml';

export const CHART = fileURLToPath(new URL('../../helm/patchgate', import.meta.url));
/** The value files of helm/patchgate/ci. */
export const CI = ['minimal', 'ha', 'ingress', 'valkey', 'everything'] as const;
export type CiFile = (typeof CI)[number];

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta & { readonly name: string };
}

export type Rendered =
  | { readonly ok: true; readonly text: string; manifests(): readonly Manifest[] }
  | { readonly ok: false; readonly error: string };

export interface Chart {
  readonly path: string;
  /** `helm template` with the value file and what is given on top of it. */
  render(file: CiFile | null, values?: object): Promise<Rendered>;
  /** The manifests of a rendering; throws if it fails. */
  manifests(file: CiFile, values?: object): Promise<readonly Manifest[]>;
  helm(
    args: string[],
    stdin?: string,
  ): Promise<{ readonly ok: boolean; readonly stdout: string; readonly stderr: string }>;
  [Symbol.asyncDispose](): Promise<void>;
}

export const SAMPLE_RULES = `groups:
  - name: sample
    rules:
      - alert: Sample
        expr: up{job="patchgate"} == 0
        for: 5m
        annotations:
          summary: "{{ $labels.instance }} of {{ $value | humanize }}"
`;

/**
 * A copy of the chart with one dashboard in place of its own, and a rule more than it carries: what becomes of them can be looked
 * at whatever they are at the time, and dashboards are most of what a rendering has to be parsed for. What was rendered once is kept.
 */
export async function chart(): Promise<Chart> {
  const home = await mkdtemp(join(tmpdir(), 'patchgate-chart-'));
  const path = join(home, 'patchgate');
  await cp(CHART, path, { recursive: true });
  await rm(join(path, 'files/dashboards'), { recursive: true });
  for (const folder of ['rules', 'dashboards']) await mkdir(join(path, 'files', folder), { recursive: true });
  await writeFile(join(path, 'files/rules/sample.yaml'), SAMPLE_RULES);
  await writeFile(join(path, 'files/dashboards/sample.json'), '{ "title": "{{sample}}", "uid": "sample" }\n');
  const helm: Chart['helm'] = (args, stdin) => run('helm', args, { home, ...(stdin !== undefined && { stdin }) });
  const template = async (file: CiFile | null, values: string): Promise<Rendered> => {
    const files = file === null ? [] : ['--values', join(path, 'ci', `${file}.yaml`)];
    const args = ['template', 'pg', path, '--namespace', 'gateways', ...files, '--values', '-'];
    const { ok, stdout, stderr } = await helm(args, values);
    let parsed: Manifest[] | null = null;
    const manifests = () => (parsed ??= manifestsIn(stdout));
    return ok ? { ok, text: stdout, manifests } : { ok, error: stderr };
  };
  const rendered = new Map<string, Promise<Rendered>>();
  const render: Chart['render'] = (file, values = {}) => {
    const text = JSON.stringify(values);
    const key = `${file} ${text}`;
    const made = rendered.get(key) ?? template(file, text);
    rendered.set(key, made);
    return made;
  };
  return {
    path,
    helm,
    render,
    async manifests(file, values) {
      const made = await render(file, values);
      if (!made.ok) throw new Error(made.error);
      return made.manifests();
    },
    [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }),
  };
}

export async function run(
  program: string,
  args: readonly string[],
  options: { readonly home: string; readonly stdin?: string },
): Promise<{ readonly ok: boolean; readonly stdout: string; readonly stderr: string }> {
  // The settings and plugins of the user's own Helm must not take part.
  const env = { PATH: process.env['PATH'], HOME: options.home };
  const running = promisify(execFile)(program, args, { env, timeout: 20_000, maxBuffer: 32 * 2 ** 20 });
  // A program that does not read it may have ended by then.
  running.child.stdin?.on('error', () => {});
  running.child.stdin?.end(options.stdin ?? '');
  try {
    return { ok: true, ...(await running) };
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    return { ok: false, stdout: stdout ?? '', stderr: stderr || String(error) };
  }
}

/** As Kubernetes reads them: YAML 1.1. */
export function manifestsIn(text: string): Manifest[] {
  return parseAllDocuments(text, { version: '1.1', uniqueKeys: true }).flatMap((document) => {
    if (document.errors.length > 0) throw new Error(`no valid YAML: ${document.errors[0]?.message}`);
    const value: unknown = document.toJS();
    return value === null ? [] : [value as Manifest];
  });
}

export const ofKind = <T extends object>(manifests: readonly Manifest[], kind: string): (Manifest & T)[] =>
  manifests.filter((each) => each.kind === kind) as (Manifest & T)[];

/** The one of its kind. */
export function only<T extends object>(manifests: readonly Manifest[], kind: string): Manifest & T {
  const [found, ...more] = ofKind<T>(manifests, kind);
  if (found === undefined || more.length > 0) throw new Error(`${more.length + (found ? 1 : 0)} objects are a ${kind}`);
  return found;
}

/** Pods that Deployments and StatefulSets make, with their labels. */
export function podsOf(
  manifests: readonly Manifest[],
): { owner: Manifest; meta: ObjectMeta; spec: PodSpec; containers: Container[] }[] {
  return manifests.flatMap((owner) => {
    const template = (owner as { spec?: { template?: { metadata?: ObjectMeta; spec?: PodSpec } } }).spec?.template;
    if (template?.spec === undefined) return [];
    return [{ owner, meta: template.metadata ?? {}, spec: template.spec, containers: template.spec.containers }];
  });
}

export const readChart = (name: string): Promise<string> => readFile(join(CHART, name), 'utf8');
