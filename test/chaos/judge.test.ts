import { expect, test } from 'vitest';
import { greatestInAnyMinute, judge, normalSince } from './judge.mjs';
import type { Arrived, Evidence, Fault, Outcome } from './types.ts';

const FAULT: Fault = { name: 'some', about: 'some', states: ['alone'], may: ['state_unavailable'], inject: () => {} };
const GOOD: Outcome = {
  account: 'plenty',
  kind: 'read',
  mark: 'r1',
  gateway: 0,
  begunAt: 100,
  endedAt: 110,
  end: 'answered',
  status: 200,
  code: null,
  retryAfter: null,
  replayed: false,
  mixed: false,
};

/** All is well from beginning to end, through two gateways. */
const calm = (): Outcome[] =>
  Array.from({ length: 60 }, (_, i) => ({
    ...GOOD,
    mark: `r${i}`,
    gateway: i % 2,
    begunAt: i * 100,
    endedAt: i * 100 + 5,
  }));
const tight = (count: number): Arrived[] =>
  Array.from({ length: count }, (_, i) => ({ mark: `t${i}`, account: 'tight', write: false, monotonic: i }));
const write = (mark: string): Arrived => ({ mark, account: 'plenty', write: true, monotonic: 1 });

const evidence = (more: Partial<Evidence> = {}): Evidence => ({
  outcomes: calm(),
  arrived: tight(60),
  times: { begunAt: 0, injectedAt: 1_000, liftedAt: 3_000, endedAt: 6_000 },
  ceiling: 60,
  down: [[], []],
  leaks: [],
  logs: [],
  ...more,
});
const violations = (more: Partial<Evidence>, fault: Partial<Fault> = {}) =>
  judge(evidence(more), { ...FAULT, ...fault }, 'alone').violations;
const withOne = (outcome: Partial<Outcome>) => ({ outcomes: [...calm(), { ...GOOD, ...outcome }] });

test('a run in which all is well is held, and its numbers are those of the evidence', () => {
  const row = judge(evidence(), FAULT, 'alone');
  expect(row.violations).toEqual([]);
  expect(row).toMatchObject({ requests: 60, recoveryMs: 0, greatestIn60s: 60, duplicates: 0, lost: 0, mixed: 0 });
});

test('one arrival above the ceiling within a minute is found, one a minute later is none', () => {
  expect(violations({ arrived: tight(61) })).toEqual(['61 in 60 s, above the ceiling of 60']);
  expect(
    violations({ arrived: [...tight(60), { mark: 't', account: 'tight', write: false, monotonic: 60_000 }] }),
  ).toEqual([]);
  expect(greatestInAnyMinute([0, 1, 60_000, 60_000.5])).toBe(3);
});

test('a run that never came near the ceiling proves nothing, and says so', () => {
  expect(violations({ arrived: tight(12) })).toEqual(['no proof: of the ceiling of 60 only 12 were used']);
});

test('a write that arrives twice is found, with a key or without', () => {
  const arrived = [...tight(60), write('w1'), write('w1')];
  for (const kind of ['write', 'keyed'] as const)
    expect(violations({ arrived, ...withOne({ kind, mark: 'w1', status: 201 }) })).toEqual([
      'write w1 arrived more than once',
    ]);
});

test('where Redis forgets, the repeat of a keyed write is a new one, and nothing else is', () => {
  const arrived = [...tight(60), write('w1'), write('w1')];
  const forgets = { forgetsKeys: true };
  expect(violations({ arrived, ...withOne({ kind: 'keyed', mark: 'w1', status: 201 }) }, forgets)).toEqual([]);
  expect(violations({ arrived, ...withOne({ kind: 'write', mark: 'w1', status: 201 }) }, forgets)).toHaveLength(1);
});

test('a keyed write that upstream has turned away with 429 may be repeated by its caller; no other write may', () => {
  const arrived = [...tight(60), { ...write('w1'), throttled: true }, write('w1')];
  expect(violations({ arrived, ...withOne({ kind: 'keyed', mark: 'w1', status: 201 }) })).toEqual([]);
  expect(violations({ arrived, ...withOne({ kind: 'write', mark: 'w1', status: 201 }) })).toHaveLength(1);
});

test('a write that was answered and never arrived is found', () => {
  expect(violations(withOne({ kind: 'write', mark: 'w9', status: 201 }))).toEqual([
    'write w9 was answered and never arrived',
  ]);
});

test.each<[string, Partial<Outcome>]>([
  ['1 × a response to another request', { mixed: true }],
  ['1 × no response at all', { end: 'silent', status: 0 }],
  ['1 × a connection broken by a gateway that lived', { end: 'broken', status: 0 }],
  ['1 × a connection refused by a gateway that lived', { end: 'refused', status: 0 }],
  ['1 × a connection broken off by a gateway that lived', { end: 'broken off' }],
  ['1 × 401 key_unknown', { status: 401, code: 'key_unknown' }],
  ['1 × 500 internal', { status: 500, code: 'internal' }],
  ['1 × 502 upstream_protocol', { status: 502, code: 'upstream_protocol' }],
  ['1 × a response 503 of upstream', { status: 503 }],
  ['1 × state_unavailable without Retry-After', { status: 503, code: 'state_unavailable' }],
  ['1 × 429 account_quota', { status: 429, code: 'account_quota', retryAfter: '3' }],
])('is found: %s', (violation, outcome) => {
  expect(violations(withOne(outcome))).toEqual([violation]);
});

test('what a fault may cause is no violation, nor what callers of a busy account get, nor repeats of what is under way', () => {
  expect(violations(withOne({ status: 503, code: 'state_unavailable', retryAfter: '1' }))).toEqual([]);
  expect(violations(withOne({ account: 'tight', status: 429, code: 'account_quota', retryAfter: '3' }))).toEqual([]);
  expect(violations(withOne({ kind: 'again', status: 409, code: 'idempotency_conflict' }))).toEqual([]);
  expect(violations(withOne({ status: 503 }), { may: ['upstream 503'] })).toEqual([]);
  expect(violations(withOne({ end: 'broken off' }), { mayBreakOff: true })).toEqual([]);
  expect(violations(withOne({ end: 'broken' }), { mayBreak: true })).toEqual([]);
});

test('who waited for Redis may find the queue full until the fleet is normal again, and not after that', () => {
  const timedOut = { status: 429, code: 'queue_timeout', retryAfter: '1' };
  const at = (begunAt: number) => withOne({ ...timedOut, begunAt, endedAt: begunAt + 10 });
  expect(violations(at(2_500))).toEqual([]);
  expect(violations(at(2_500), { may: ['upstream 503'] })).toEqual(['1 × 429 queue_timeout']);
  expect(violations(at(500))).toEqual(['1 × 429 queue_timeout']);
  expect(violations(at(5_500))).toEqual(['1 × 429 queue_timeout']);
});

test('a connection may break only while its gateway is down', () => {
  const down = [[{ from: 90, to: 500 }], []];
  expect(violations({ down, ...withOne({ end: 'broken', status: 0 }) })).toEqual([]);
  expect(violations({ down, ...withOne({ end: 'broken', status: 0, gateway: 1 }) })).toHaveLength(1);
  expect(violations({ down, ...withOne({ end: 'refused', status: 0, begunAt: 2_000, endedAt: 2_001 }) })).toHaveLength(
    1,
  );
});

test('normal is a second in which all that began went well, through every gateway', () => {
  const bad = { ...GOOD, begunAt: 3_500, endedAt: 3_600, status: 503, code: 'state_unavailable', retryAfter: '1' };
  expect(normalSince([...calm(), bad], 3_000, 2)).toBe(3_501);
  expect(normalSince([...calm(), { ...bad, begunAt: 5_500 }], 3_000, 2)).toBe(3_000);
  expect(normalSince([...calm(), { ...bad, begunAt: 5_500 }], 5_000, 2)).toBe(null);
  // The state of a gateway that received no request is unknown.
  expect(normalSince(calm(), 3_000, 3)).toBe(null);
});

test('a late return to normal, a leak and an unexpected log line are violations', () => {
  const outcomes = calm().filter(({ begunAt }) => begunAt < 3_000);
  expect(violations({ outcomes, leaks: ['a leak'], logs: ['a line'] })).toEqual([
    'not normal again within the time given',
    'a leak',
    'a line',
  ]);
});
