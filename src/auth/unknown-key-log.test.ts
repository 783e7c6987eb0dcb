import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createLineLimit } from '../server/line-limit.ts';
import { createUnknownKeyLog } from './authenticate.ts';

const MINUTE = 60_000;
const keyOf = (tenant: string, seed: number) => `pgk_${tenant}_${`${seed}`.padStart(43, '_-Aa0')}`;

function setUp() {
  const clock = new ManualClock();
  const lines: [fields: Record<string, unknown>, message: string][] = [];
  const other = () => {
    throw new Error('another level');
  };
  const warn = (fields: Record<string, unknown>, message: string) => void lines.push([fields, message]);
  const limit = createLineLimit({ clock, perKey: 1, total: 10, onLeftOut: () => {} });
  const rejected = createUnknownKeyLog({ debug: other, info: other, warn, error: other }, limit);
  return { clock, lines, rejected };
}

test('a removed key is logged with the tenant that it names and eight digits of its digest, once in a minute', () => {
  const { clock, lines, rejected } = setUp();
  const key = 'pgk_billing_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
  for (let i = 0; i < 100; i++) rejected(key, '192.0.2.1');
  const line = [{ claimedTenant: 'billing', keyDigest: 'a95b028c', client: '192.0.2.1' }, 'unknown key rejected'];
  expect(lines).toEqual([line]);
  clock.advance(MINUTE - 1);
  rejected(key, '192.0.2.1');
  expect(lines).toHaveLength(1);
  clock.advance(1);
  rejected(key, '192.0.2.1');
  expect(lines).toEqual([line, line]);
});

test.each(['a', 'my_tenant', 'a-b_c.d', `${'x'.repeat(63)}`])('the tenant is found in the key of %s', (tenant) => {
  const { lines, rejected } = setUp();
  rejected(keyOf(tenant, 1), '192.0.2.1');
  expect(lines[0]?.[0]['claimedTenant']).toBe(tenant);
});

test.each([
  'nonsense',
  '',
  'pgk_billing_short',
  `pgk_${'x'.repeat(64)}_${'A'.repeat(43)}`,
  `pgk_Billing_${'A'.repeat(43)}`,
  `pgk__${'A'.repeat(43)}`,
  `pgk_bill\ning_${'A'.repeat(43)}`,
  `pgk_billing_${'A'.repeat(42)}é`,
  `x pgk_billing_${'A'.repeat(43)}`,
  'pgk_'.repeat(20_000),
])('a key of another form is not logged: %j', (key) => {
  const { lines, rejected } = setUp();
  rejected(key, '192.0.2.1');
  expect(lines).toEqual([]);
});

test('ever new keys cannot flood the log: ten lines a minute', () => {
  const { clock, lines, rejected } = setUp();
  for (let i = 0; i < 5_000; i++) rejected(keyOf('billing', i), `192.0.2.${i % 250}`);
  expect(lines).toHaveLength(10);
  clock.advance(MINUTE);
  rejected(keyOf('billing', 9_999), '192.0.2.1');
  expect(lines).toHaveLength(11);
});
