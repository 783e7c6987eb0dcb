import { expect, test } from 'vitest';
import { faultsOf, faultsOfRound } from './probe.mjs';
import { BODY, type Kind, WORK } from './work.mjs';

const work = (kind: Kind) => WORK.find((each) => each.kind === kind)!;
const holder = { holdsCredential: true };
const answer = (change: { status?: number; body?: string; headers?: Record<string, string> } = {}) => ({
  status: change.status ?? 200,
  headers: { 'content-type': 'application/json', 'x-saw': 'account', ...change.headers },
  rawHeaders: [],
  body: Buffer.from(change.body ?? BODY),
});

test('a right answer has no fault', () => {
  expect(faultsOf(work('pass'), answer(), holder)).toEqual([]);
  expect(faultsOf(work('pass'), answer({ headers: { 'x-saw': 'other' } }), { holdsCredential: false })).toEqual([]);
});

test.each([
  ['another status', work('pass'), answer({ status: 502 }), 'status 502'],
  ['another body', work('hit'), answer({ body: `${BODY} ` }), 'another body'],
  ['another type', work('hit'), answer({ headers: { 'content-type': 'text/html' } }), 'content-type'],
  ['the key of the tenant upstream', work('pass'), answer({ headers: { 'x-saw': 'other' } }), 'saw the key of'],
  ['a download that is cut off', work('stream'), answer(), 'bytes in place of'],
])('%s is a fault', (_, kind, wrong, fault) => {
  expect(faultsOf(kind, wrong, holder).join('\n')).toContain(fault);
});

const load = { requests: 1_000, seconds: 1, bytes: 2_500_000, above399: 0, broken: 0 };
const seen = { reached: 1_000, probeBytes: 2_490 };

test('a round in which all is as it should be counts', () => {
  expect(faultsOfRound(work('pass'), load, seen)).toEqual([]);
  expect(faultsOfRound(work('hit'), load, { ...seen, reached: 0 })).toEqual([]);
});

test.each([
  ['pass-throughs that were answered from a cache or for one another', work('pass'), load, { ...seen, reached: 40 }],
  ['hits that reached the upstream', work('hit'), load, seen],
  ['a single error', work('pass'), { ...load, above399: 1 }, seen],
  ['answers of another size', work('pass'), { ...load, bytes: 1_000_000 }, seen],
  ['a broken connection', work('pass'), { ...load, broken: 1 }, seen],
])('a round does not count with %s', (_, kind, measured, upstream) => {
  expect(faultsOfRound(kind, measured, upstream)).toHaveLength(1);
});
