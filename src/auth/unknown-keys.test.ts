import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { createUnknownKeyLog } from './unknown-keys.ts';

const MINUTE = 60_000;
const keyOf = (tenant: string, seed: number) => `pgk_${tenant}_${`${seed}`.padStart(43, '_-Aa0')}`;

function setUp() {
  const clock = new ManualClock();
  const lines: [fields: Record<string, unknown>, message: string][] = [];
  const other = () => {
    throw new Error('another level');
  };
  const warn = (fields: Record<string, unknown>, message: string) => void lines.push([fields, message]);
  const log = createUnknownKeyLog({ clock, log: { debug: other, info: other, warn, error: other } });
  return { clock, lines, log };
}

test('a removed key is logged with the tenant that it names and eight digits of its digest, once in ten minutes', () => {
  const { clock, lines, log } = setUp();
  const key = 'pgk_billing_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
  for (let i = 0; i < 100; i++) log.rejected(key, '192.0.2.1');
  const line = [{ claimedTenant: 'billing', keyDigest: 'a95b028c', client: '192.0.2.1' }, 'unknown key rejected'];
  expect(lines).toEqual([line]);
  clock.advance(10 * MINUTE - 1);
  log.rejected(key, '192.0.2.1');
  expect(lines).toHaveLength(1);
  clock.advance(1);
  log.rejected(key, '192.0.2.1');
  expect(lines).toEqual([line, line]);
});

test.each(['a', 'my_tenant', 'a-b_c.d', `${'x'.repeat(63)}`])('the tenant is found in the key of %s', (tenant) => {
  const { lines, log } = setUp();
  log.rejected(keyOf(tenant, 1), '192.0.2.1');
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
  const { lines, log } = setUp();
  log.rejected(key, '192.0.2.1');
  expect(lines).toEqual([]);
});

test('ever new keys cannot flood the log: ten lines a minute, and the next one says how many were left out', () => {
  const { clock, lines, log } = setUp();
  for (let i = 0; i < 5_000; i++) log.rejected(keyOf('billing', i), `192.0.2.${i % 250}`);
  expect(lines).toHaveLength(10);
  clock.advance(MINUTE);
  log.rejected(keyOf('billing', 9_999), '192.0.2.1');
  expect(lines).toHaveLength(11);
  expect(lines[10]?.[0]).toMatchObject({ leftOut: 4_990 });
});
