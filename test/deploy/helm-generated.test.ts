import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { documentedValues } from '../../scripts/chart/documented.mjs';
import { chartFiles, leftovers } from '../../scripts/chart/files.mjs';
import { valuesSchema } from '../../scripts/chart/schema.mjs';
import { readChart } from '../support/helm.ts';

const fromRoot = (path: string) => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

test('the chart is up to date: its schema, its table of values, its copies of rules and dashboards (npm run generate)', () => {
  const stale = [...chartFiles()].filter(([path, content]) => {
    try {
      return fromRoot(path) !== content;
    } catch {
      return true;
    }
  });
  expect(stale.map(([path]) => path)).toEqual([]);
  expect(leftovers()).toEqual([]);
});

test('every value is documented, also in the schema that editors show', async () => {
  const schema = JSON.parse(await readChart('values.schema.json')) as Schema;
  for (const { path, description } of documentedValues(await readChart('values.yaml'))) {
    const inSchema = path.split('.').reduce<Schema | undefined>((at, step) => at?.properties?.[step], schema);
    expect(inSchema?.description, path).toBe(description);
    expect(description.length, path).toBeGreaterThan(8);
  }
});

test('a value without a comment, or without a type, is not let through', () => {
  expect(() => documentedValues('# One.\na: 1\nb: 2\n')).toThrow('b has no comment');
  const gateway = { properties: { listen: { properties: {} } } };
  const tenants = { properties: { tenants: {} } };
  const values = documentedValues('# One.\na: 1\n');
  const made = (types: string) => valuesSchema({ values, types, gateway, tenants });
  expect(() => made('{ types: {}, values: {} }')).toThrow('says nothing about a');
  expect(() => made('{ types: {}, values: { a: { $type: b } } }')).toThrow('has no type b');
  expect(() => made('{ types: {}, values: { a: {}, c: {} } }')).toThrow('does not have: c');
});

interface Schema {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
}
