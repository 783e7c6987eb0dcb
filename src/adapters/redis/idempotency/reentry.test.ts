import { expect, test } from 'vitest';
import type { KeyedWrite, WriteOutcome } from '../../../idempotency/store.ts';
import { RecentWrites } from './reentry.ts';

let owners = 0;
const write = (leaseMs = 120_000): KeyedWrite => {
  const owner = `owner${owners++}`;
  return { account: 'main', tenant: 'one', id: owner, fingerprint: 'body', owner, leaseMs };
};
const completed = (bodyBytes: number, headers: string[] = []): WriteOutcome => ({
  kind: 'completed',
  response: { status: 201, headers, body: Buffer.alloc(bodyBytes) },
});
const bodiesOf = (recent: RecentWrites) =>
  [...recent.all()].map(({ outcome }) =>
    outcome?.kind === 'completed' ? (outcome.response.body?.length ?? null) : outcome,
  );

test('a write in progress is remembered for its lease, and an ended one for a while', () => {
  const recent = new RecentWrites();
  const [pending, ended] = [write(), write()];
  recent.begun(pending, 0);
  recent.begun(ended, 0);
  recent.ended(ended, { kind: 'unknown' }, 1_000);
  recent.forget(31_000);
  expect(recent.size).toBe(2);
  recent.forget(31_001);
  expect([...recent.all()].map(({ write: { owner } }) => owner)).toEqual([pending.owner]);
  recent.forget(150_001);
  expect(recent.size).toBe(0);
});

test('a released write, and one that was not begun here, are not remembered', () => {
  const recent = new RecentWrites();
  const released = write();
  recent.begun(released, 0);
  recent.ended(released, { kind: 'released' }, 0);
  recent.ended(write(), completed(1), 0);
  expect(recent.size).toBe(0);
});

test('responses beyond a mebibyte are remembered by their status, until others are forgotten', () => {
  const recent = new RecentWrites();
  const finish = (outcome: WriteOutcome, now: number) => {
    const each = write();
    recent.begun(each, now);
    recent.ended(each, outcome, now);
    // As the retry of an outcome that could not be stored.
    recent.ended(each, outcome, now);
  };
  finish(completed(600_000), 0);
  finish(completed(400_000, ['A', 'x'.repeat(100_000)]), 1_000);
  finish(completed(400_000), 1_000);
  expect(bodiesOf(recent)).toEqual([600_000, null, 400_000]);
  recent.forget(30_500);
  finish(completed(600_000), 30_500);
  expect(bodiesOf(recent)).toEqual([null, 400_000, 600_000]);
});

test('of more than ten thousand ended writes the latest are remembered, and all in progress', () => {
  const recent = new RecentWrites();
  const pending = write();
  recent.begun(pending, 0);
  const ended = Array.from({ length: 10_050 }, () => write());
  for (const each of ended) {
    recent.begun(each, 0);
    recent.ended(each, { kind: 'unknown' }, 0);
  }
  const owners = [...recent.all()].map(({ write: { owner } }) => owner);
  expect(owners).toEqual([pending, ...ended.slice(50)].map(({ owner }) => owner));
});
