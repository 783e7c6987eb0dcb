import type { ConfigMap, PersistentVolumeClaim } from 'kubernetes-types/core/v1.d.ts';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type Chart, type CiFile, chart, ofKind } from '../support/helm.ts';
import { gatewayPod } from '../support/helm-release.ts';
import { typeErrors } from '../support/kubernetes-types.ts';

let built: Chart;
beforeAll(async () => {
  built = await chart();
});
afterAll(() => built[Symbol.asyncDispose]());

const budgets = { operations: { match: ['POST /api/v1/flows/*/start/**'], limit: 1000 } };
const withBudgets = { accounts: { main: { budgets } } };

/** The directory of the configuration, the claim that is mounted there, and the claims that the chart makes. */
async function stateOf(file: CiFile, values: object) {
  const manifests = await built.manifests(file, values);
  expect(await typeErrors(manifests)).toEqual([]);
  const { spec, container } = gatewayPod(manifests);
  const texts = ofKind<ConfigMap>(manifests, 'ConfigMap').flatMap(({ data }) => data?.['gateway.yaml'] ?? []);
  const { stateDir } = parse(texts[0] ?? '') as { stateDir?: string };
  const mount = container.volumeMounts?.find(({ mountPath }) => mountPath === stateDir);
  const claim = spec.volumes?.find(({ name }) => name === mount?.name)?.persistentVolumeClaim?.claimName;
  const made = ofKind<PersistentVolumeClaim>(manifests, 'PersistentVolumeClaim');
  return { stateDir, claim, made: made.map(({ metadata }) => metadata?.name), readOnly: mount?.readOnly };
}

test('budgets in embedded state get a volume that can be written and outlives the release', async () => {
  expect(await stateOf('minimal', { config: withBudgets })).toEqual({
    ...{ stateDir: '/var/lib/patchgate', claim: 'pg-patchgate-state', made: ['pg-patchgate-state'] },
    readOnly: undefined,
  });
  const manifests = await built.manifests('minimal', {
    config: withBudgets,
    state: { storageClass: 'fast', size: '1Gi' },
  });
  const [claim] = ofKind<PersistentVolumeClaim>(manifests, 'PersistentVolumeClaim');
  expect(claim?.metadata?.annotations).toEqual({ 'helm.sh/resource-policy': 'keep' });
  expect(claim?.spec).toEqual({
    ...{ accessModes: ['ReadWriteOnce'], storageClassName: 'fast', resources: { requests: { storage: '1Gi' } } },
  });
});

test('an existing claim is used instead', async () => {
  expect(await stateOf('minimal', { config: withBudgets, state: { existingClaim: 'counts' } })).toMatchObject({
    ...{ stateDir: '/var/lib/patchgate', claim: 'counts', made: [] },
  });
});

test.each([
  ['without budgets', 'minimal', {}, undefined],
  ['with Redis', 'valkey', { config: withBudgets }, undefined],
  ['with a directory of its own', 'minimal', { config: { ...withBudgets, stateDir: '/data' } }, '/data'],
] as const)('there is no volume %s', async (_, file, values, stateDir) => {
  expect(await stateOf(file, values)).toMatchObject({ stateDir, claim: undefined, made: [] });
});
