import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Deployment } from 'kubernetes-types/apps/v1.d.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import packageJson from '../../package.json' with { type: 'json' };
import {
  type Chart,
  CI,
  type CiFile,
  chart,
  type Manifest,
  ofKind,
  only,
  podsOf,
  readChart,
  run,
  SAMPLE_RULES,
} from '../support/helm.ts';
import { typeErrors } from '../support/kubernetes-types.ts';

let built: Chart;
beforeAll(async () => {
  built = await chart();
});
afterAll(() => built[Symbol.asyncDispose]());

describe('helm lint --strict', () => {
  test('finds nothing, with the defaults and with each value file', async () => {
    for (const file of [null, ...CI]) {
      const values = file === null ? [] : ['--values', `${built.path}/ci/${file}.yaml`];
      const { ok, stdout, stderr } = await built.helm(['lint', '--strict', built.path, ...values]);
      expect([ok, file === null ? '' : stderr.replaceAll(/^.*level=DEBUG.*$/gm, '').trim()], stdout + stderr).toEqual([
        true,
        '',
      ]);
      expect(stdout).toContain('1 chart(s) linted, 0 chart(s) failed');
    }
  });
});

describe('helm template', () => {
  test.each(CI)('%s: every object is one that Kubernetes knows, field by field', async (file) => {
    expect(await typeErrors(await built.manifests(file))).toEqual([]);
  });

  test('a field that Kubernetes does not know would be seen', async () => {
    const manifests = await built.manifests('minimal', { podSecurityContext: { runAsNonRot: true } });
    expect((await typeErrors(manifests)).join('\n')).toMatch(/'"?runAsNonRot"?' does not exist/);
  });

  test('kubectl reads every pod template into its own types and loses nothing of it', async () => {
    for (const file of CI) {
      for (const { owner, spec } of podsOf(await built.manifests(file))) {
        expect(await asKubectlReads(owner)).toEqual(spec);
      }
    }
    const [pod] = podsOf(await built.manifests('minimal', { podSecurityContext: { runAsNonRot: true } }));
    expect(await asKubectlReads(pod!.owner)).not.toEqual(pod!.spec);
  });
});

test('rules and dashboards arrive as they are, templates of their own included', async () => {
  const manifests = await built.manifests('ha');
  const { spec } = only<{ spec: { groups: { name: string }[] } }>(manifests, 'PrometheusRule');
  expect(spec.groups.find(({ name }) => name === 'sample')).toEqual(parse(SAMPLE_RULES).groups[0]);
  const dashboard = manifests.find(({ metadata }) => metadata.name === 'pg-patchgate-dashboard-sample');
  expect(dashboard).toMatchObject({
    metadata: { labels: { grafana_dashboard: '1' }, annotations: { grafana_folder: 'patchgate' } },
    data: { 'sample.json': '{ "title": "{{sample}}", "uid": "sample" }\n' },
  });
});

test('alerts lead to the runbooks of your copy, and so does the page, where the values say where it is', async () => {
  const manifests = await built.manifests('ha', {
    metrics: { rules: { runbookBaseUrl: 'https://git.example.com/gate/blob/main/' } },
  });
  const rules = JSON.stringify(only<{ spec: object }>(manifests, 'PrometheusRule').spec);
  const links = [...rules.matchAll(/"runbook_url":"([^"]*)"/g)].map(([, link]) => link);
  expect(links.length).toBeGreaterThan(30);
  for (const link of links)
    expect(link).toMatch(/^https:\/\/git\.example\.com\/gate\/blob\/main\/docs\/operations\.md#patchgate[a-z]+$/);
  const config = ofKind<{ metadata: { name: string }; data: Record<string, string> }>(manifests, 'ConfigMap').find(
    ({ metadata }) => metadata.name === 'pg-patchgate',
  );
  const gatewayYaml = parse(config?.data['gateway.yaml'] ?? '');
  expect(gatewayYaml.listen.admin).toMatchObject({
    name: 'gateways/pg-patchgate',
    runbookBaseUrl: 'https://git.example.com/gate/blob/main/',
  });
});

test('Prometheus takes the rules as the chart hands them over', async () => {
  const { spec } = only<{ spec: object }>(await built.manifests('ha'), 'PrometheusRule');
  const file = join(built.path, 'as-rendered.yaml');
  await writeFile(file, JSON.stringify(spec));
  const checked = await run('promtool', ['check', 'rules', file], { home: built.path });
  expect(checked).toMatchObject({ ok: true, stdout: expect.stringMatching(/SUCCESS: \d+ rules found/) });
});

test('a package of the chart renders what the folder does', async () => {
  const { ok, stdout, stderr } = await built.helm(['package', built.path, '--destination', join(built.path, '..')]);
  expect([ok, stderr]).toEqual([true, '']);
  const archive = /saved it to: (.*)\n/.exec(stdout)?.[1] ?? '';
  const args = ['--namespace', 'gateways', '--values', `${built.path}/ci/ha.yaml`];
  const fromFolder = await built.helm(['template', 'pg', built.path, ...args]);
  expect(await built.helm(['template', 'pg', archive, ...args])).toEqual({ ...fromFolder, stderr: expect.anything() });
  expect((await run('tar', ['-tzf', archive], { home: built.path })).stdout).not.toMatch(/\/ci\/|values\.types/);
});

describe('the record', () => {
  const record = async (file: CiFile, values: object = {}) => {
    const args = [
      'install',
      'pg',
      built.path,
      '--dry-run=client',
      '--namespace',
      'gateways',
      '--values',
      `${built.path}/ci/${file}.yaml`,
    ];
    const { stdout, stderr } = await built.helm([...args, '--values', '-'], JSON.stringify(values));
    if (!stdout.includes('NOTES:')) throw new Error(stderr);
    return stdout.split('NOTES:')[1] ?? '';
  };

  test('tell how to make a key, try it, and where the metrics are', async () => {
    const said = await record('minimal');
    expect(said).toContain('http://pg-patchgate.gateways:8080/api/v1');
    expect(said).toMatch(/exec deploy\/pg-patchgate -- .* key create TENANT --expires 180d/);
    expect(said).toMatch(/whoami/);
    expect(said).toMatch(/get secret pg-patchgate -o jsonpath='\{\.data\.admin-token\}'/);
    expect(said).not.toContain('fake-admin-token');
  });

  test('warn of embedded state, of an open admin port and of proxies that are not named, and of nothing else', async () => {
    const warnings = async (file: CiFile, values?: object) =>
      (await record(file, values)).match(/(?<=WARNING: )[^:.]*/g) ?? [];
    expect(await warnings('minimal')).toEqual(['state is embedded']);
    expect(await warnings('ha')).toEqual([]);
    expect(await warnings('ha', { admin: { auth: false }, networkPolicy: { enabled: false } })).toEqual([
      'the admin port requires no token, and no NetworkPolicy of this chart protects it',
    ]);
    expect(await warnings('ingress')).toEqual([]);
    expect(await warnings('ingress', { config: { listen: { trustedProxies: [] } } })).toEqual(['config']);
    expect(await record('ingress')).toContain('https://patchgate.example.test/api/v1');
    expect(await record('valkey')).toContain('https://patchgate.example.test/api/v1');
  });
});

test('chart and program carry one version', async () => {
  const { version, appVersion } = parse(await readChart('Chart.yaml')) as { version: string; appVersion: string };
  expect([version, appVersion]).toEqual([packageJson.version, packageJson.version]);
});

/** `set` is one of the commands that read an object into its type. The variable it sets is taken away again. */
async function asKubectlReads(owner: Manifest): Promise<unknown> {
  const args = ['set', 'env', '--local', '-f', '-', 'SET_BY_KUBECTL=0', '-o', 'json'];
  const { stdout, stderr } = await run('kubectl', args, { home: built.path, stdin: JSON.stringify(owner) });
  if (stdout === '') throw new Error(stderr);
  const { spec } = (JSON.parse(stdout) as Required<Deployment>).spec.template;
  const containers = spec?.containers.map(({ env = [], ...container }) => {
    const rest = env.filter(({ name }) => name !== 'SET_BY_KUBECTL');
    return { ...container, ...(rest.length > 0 && { env: rest }) };
  });
  return { ...spec, containers };
}
