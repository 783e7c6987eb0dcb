import { expect, test } from 'vitest';
import { Dataset } from './dataset.ts';
import { SIZES } from './items.ts';

test('of a collection that grows the oldest that were created go, and what was there at first stays', () => {
  const data = new Dataset(1);
  const first = data.create('flow-runs', { status: 1 }).id;
  let last = first;
  for (let i = 0; i < 10_000; i++) last = data.create('flow-runs', { status: 1 }).id;
  expect(data.all('flow-runs')).toHaveLength(10_000);
  expect(data.get('flow-runs', first)).toBeUndefined();
  expect(data.get('flow-runs', last)).toBeDefined();
  for (let id = 1; id <= (SIZES['flow-runs'] ?? 0); id++) expect(data.get('flow-runs', id)).toBeDefined();
});
