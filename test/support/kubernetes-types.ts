import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Manifest } from './helm.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** Where each kind is described: Kubernetes' own OpenAPI document as types, and ours for the three it does not know. */
const MODULES: Readonly<Record<string, string>> = {
  'v1 ConfigMap': 'kubernetes-types/core/v1.d.ts',
  'v1 Secret': 'kubernetes-types/core/v1.d.ts',
  'v1 Service': 'kubernetes-types/core/v1.d.ts',
  'v1 PersistentVolumeClaim': 'kubernetes-types/core/v1.d.ts',
  'v1 ServiceAccount': 'kubernetes-types/core/v1.d.ts',
  'apps/v1 Deployment': 'kubernetes-types/apps/v1.d.ts',
  'apps/v1 StatefulSet': 'kubernetes-types/apps/v1.d.ts',
  'autoscaling/v2 HorizontalPodAutoscaler': 'kubernetes-types/autoscaling/v2.d.ts',
  'policy/v1 PodDisruptionBudget': 'kubernetes-types/policy/v1.d.ts',
  'networking.k8s.io/v1 NetworkPolicy': 'kubernetes-types/networking/v1.d.ts',
  'networking.k8s.io/v1 Ingress': 'kubernetes-types/networking/v1.d.ts',
  'monitoring.coreos.com/v1 ServiceMonitor': '../../../test/support/operator-types.ts',
  'monitoring.coreos.com/v1 PrometheusRule': '../../../test/support/operator-types.ts',
  'gateway.networking.k8s.io/v1 HTTPRoute': '../../../test/support/operator-types.ts',
};

/**
 * Compiler errors of manifests: an unknown field, a field of a wrong type, or a missing field.
 * A literal may have no field that its type does not know, which is as strict as the API server with `fieldValidation=Strict`.
 */
export async function typeErrors(manifests: readonly Manifest[]): Promise<string[]> {
  const imports = new Set<string>();
  const lines = manifests.map((manifest, index) => {
    const module = MODULES[`${manifest.apiVersion} ${manifest.kind}`];
    if (module === undefined) throw new Error(`${manifest.apiVersion} ${manifest.kind} is no kind the tests know`);
    const type = `${manifest.kind}Of${manifest.apiVersion.replaceAll(/\W/g, '_')}`;
    imports.add(`import type { ${manifest.kind} as ${type} } from '${module}';`);
    return `export const m${index}: ${type} = ${JSON.stringify(manifest, null, 1)};`;
  });
  // Inside the repository, as the types are found from there.
  const folder = await mkdtemp(join(root, 'node_modules/.cache/', 'manifests-'));
  try {
    const file = join(folder, 'manifests.ts');
    await writeFile(file, [...imports, ...lines].join('\n'));
    const options = { noEmit: true, strict: true, skipLibCheck: true, allowImportingTsExtensions: true, types: [] };
    const tsconfig = { compilerOptions: { ...options, module: 'nodenext', target: 'es2023' }, files: ['manifests.ts'] };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(tsconfig));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const failure = await promisify(execFile)(process.execPath, [tsc, '-p', folder, '--pretty', 'false']).then(
      () => null,
      (error: { stdout?: string }) => error.stdout ?? String(error),
    );
    return failure === null ? [] : failure.trim().split('\n');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
