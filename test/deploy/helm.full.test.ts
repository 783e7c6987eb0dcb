import { isDeepStrictEqual } from 'node:util';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { documentedValues } from '../../scripts/chart/documented.mjs';
import { CI, type CiFile, chart, readChart } from '../support/helm.ts';

test('each value of the chart has an effect', async () => {
  await using built = await chart();
  const defaults = parse(await readChart('values.yaml')) as Values;
  const bases = await Promise.all(CI.map(async (file) => parse(await readChart(`ci/${file}.yaml`)) as Values));
  const documented = documentedValues(await readChart('values.yaml')).map(({ path }) => path);
  const idle: string[] = [];
  for (const path of documented) {
    const other = OTHERS[path];
    let effect = false;
    for (const file of other === undefined ? CI : [other.file]) {
      const given = bases[CI.indexOf(file)] ?? {};
      const base = other?.beside === undefined ? given : withValue(given, ...other.beside);
      const changed = withValue(base, path, other === undefined ? at(defaults, path) : other.value);
      if (effect || isDeepStrictEqual(changed, base)) continue;
      const [before, after] = await Promise.all([built.render(null, base), built.render(null, changed)]);
      effect = JSON.stringify(before) !== JSON.stringify(after);
    }
    if (!effect) idle.push(path);
  }
  expect(idle).toEqual([]);
}, 240_000);

type Values = { [key: string]: unknown };

interface Other {
  readonly file: CiFile;
  readonly value: unknown;
  /** Has to be there too. */
  readonly beside?: readonly [path: string, value: unknown];
}

const BUDGETS = [
  'config.accounts.main.budgets',
  { operations: { match: ['POST /api/v1/flows/*/start/**'], limit: 1000 } },
] as const;

/** Values that the value files leave at their default: one of the files, and another value in it. */
const OTHERS: Readonly<Record<string, Other>> = {
  'state.existingClaim': { file: 'minimal', value: 'counts', beside: BUDGETS },
  'state.size': { file: 'minimal', value: '1Gi', beside: BUDGETS },
  'state.storageClass': { file: 'minimal', value: 'fast', beside: BUDGETS },
  'serviceAccount.create': { file: 'minimal', value: false },
  'admin.auth': { file: 'minimal', value: false },
  'podDisruptionBudget.enabled': { file: 'ha', value: false },
  'networkPolicy.egress.redisPorts': { file: 'ingress', value: [7000] },
  'httpRoute.annotations': { file: 'valkey', value: { 'example.com/team': 'integrations' } },
  'valkey.image.digest': { file: 'valkey', value: `sha256:${'0'.repeat(64)}` },
  podSecurityContext: { file: 'minimal', value: { runAsUser: 1000 } },
  securityContext: { file: 'minimal', value: { privileged: true } },
};

const at = (values: Values, path: string): unknown =>
  path.split('.').reduce<unknown>((value, step) => (value as Values | undefined)?.[step], values);

/** A copy with another value. */
function withValue(values: Values, path: string, value: unknown): Values {
  const [step = '', ...rest] = path.split('.');
  const below = (values[step] ?? {}) as Values;
  return { ...values, [step]: rest.length === 0 ? value : withValue(below, rest.join('.'), value) };
}
