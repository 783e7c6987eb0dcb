import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { decisionsIn, goodputIn, replaced } from '../sections.mjs';
import { chart } from './chart.mjs';
import { type Results, reportOf } from './page.mjs';
import type { Measured } from './rounds.mjs';
import { tableOf } from './table.mjs';
import { targetsOf } from './targets.mjs';

const MIB = 1024 * 1024;
const PAGE = readFileSync(new URL('../../../docs/benchmarks.md', import.meta.url), 'utf8');

function measured(id: string, rates: number[], more: Partial<Measured> = {}): Measured {
  const rounds = rates.map((rate) => ({ rate, cpuMicros: 1e6 / rate, busy: 1, others: 0.01, redisCommands: 0 }));
  return { id, name: id, rounds, latency: [], startMs: 400, idleBytes: 100 * MIB, endBytes: 120 * MIB, ...more };
}

const at = (p50: number, p99: number) => ({ latency: [{ p50, p99, p999: p99, late: 0, cpuMicros: 50 }] });
const kinds = {
  hit: [measured('gateway', [950, 950]), measured('raw', [1_000, 1_000]), measured('nginx', [1_100, 1_100])],
  pass: [
    measured('gateway', [700], at(0.35, 2)),
    measured('gateway-redis', [480], at(0.5, 2)),
    measured('raw-proxy', [750], at(0.3, 2)),
    measured('fastify', [500], at(0.5, 2.5)),
    measured('nginx', [3_000], at(0.2, 1)),
  ],
  refused: [measured('gateway', [1_200]), measured('gateway-redis', [1_100])],
};
const stream = { mibPerSecond: 500, cpuMillisPerGib: 900, peakBytes: 130 * MIB };
const streams = [{ id: 'gateway', name: 'gateway', idleBytes: 100 * MIB, startMs: 400, rounds: [stream] }];
const others = {
  goodput: { goodput: 0.99, throttled: 0 },
  decisions: [{ tenants: 10, askers: 1, rate: 100, ratio: 0.6 }],
};
const met = (speeds: Parameters<typeof targetsOf>[0], other: Parameters<typeof targetsOf>[1] = others) =>
  Object.fromEntries(targetsOf(speeds, other).map((row) => [`${row.work}: ${row.target}`, row.met]));

test('a target is met or not by what was measured', () => {
  expect(met({ kinds, streams })).toEqual({
    'cached hit, key checked, no Redis on the way: ≥ 0.90 × raw': true,
    'cached hit: ≥ 0.80 × nginx': true,
    'pass-through with everything, embedded state: ≥ 1.30 × fastify': true,
    'pass-through with everything, embedded state: ≥ 0.90 × raw-proxy': true,
    'pass-through with the quota in Redis: ≥ 1.00 × fastify': false,
    'CPU of a cached hit: ≤ 1.15 × raw': true,
    'CPU of a pass-through: ≤ 1.25 × raw-proxy': true,
    'added latency at 1,500 a second, embedded state: p50 < 0.2 ms above nginx': true,
    'the same: p99 no worse than fastify': true,
    'refusals: ≥ cached hits a second': true,
    'a refused flood: asks Redis nothing per request': true,
    'goodput, 3 replicas, jittery latency, saturated: ≥ 0.985 × ceiling, no 429 from upstream': true,
    'decision script, one asks: ≥ 0.5 × an empty EVALSHA; flat from 10 to 10,000 tenants': null,
    'decision script, 16 ask together: ≥ 0.5 × an empty EVALSHA; flat from 10 to 10,000 tenants': null,
    'memory, idle: < 150 MiB RSS': true,
    'memory, 1 GiB streamed: adds < 40 MiB to that': true,
    'memory, 24 h of load: no growth': null,
    'start: < 1 s from exec to ready': true,
  });
});

test('a target that is missed by a little is missed', () => {
  const slow = {
    hit: [measured('gateway', [860]), measured('raw', [1_000]), measured('nginx', [1_100])],
    pass: [
      measured('gateway', [640], at(0.401, 2.6)),
      measured('fastify', [500], at(0.4, 2.5)),
      measured('nginx', [9], at(0.2, 1)),
    ],
    refused: [measured('gateway', [859])],
  };
  const heavy = [{ ...streams[0]!, startMs: 1_000, rounds: [{ ...stream, peakBytes: 140 * MIB }] }];
  const missed = met({ kinds: slow, streams: heavy }, { goodput: { goodput: 1, throttled: 0.1 }, decisions: [] });
  expect(Object.entries(missed).flatMap(([row, isMet]) => (isMet === false ? [row.split(':')[0]] : []))).toEqual([
    'cached hit, key checked, no Redis on the way',
    'cached hit',
    'pass-through with everything, embedded state',
    'CPU of a cached hit',
    'added latency at 1,500 a second, embedded state',
    'the same',
    'refusals',
    'goodput, 3 replicas, jittery latency, saturated',
    'memory, 1 GiB streamed',
  ]);
});

test('decisions are judged by who asks alone and by those who ask together, each at its worst', () => {
  const row = (tenants: number, askers: number, rate: number, ratio: number) => ({ tenants, askers, rate, ratio });
  const judged = (decisions: ReturnType<typeof row>[]) =>
    targetsOf({ kinds: {}, streams: [] }, { goodput: null, decisions })
      .filter(({ work }) => work.startsWith('decision'))
      .map((each) => each.met);
  expect(
    judged([row(10, 1, 100, 0.6), row(10_000, 1, 99, 0.45), row(10, 16, 200, 0.7), row(10_000, 16, 199, 0.7)]),
  ).toEqual([false, true]);
  expect(
    judged([row(10, 1, 100, 0.6), row(10_000, 1, 99, 0.6), row(10, 16, 200, 0.9), row(10_000, 16, 100, 0.7)]),
  ).toEqual([true, false]);
});

test('a run that measured nothing meets nothing', () => {
  const rows = targetsOf({ kinds: {}, streams: [] }, { goodput: null, decisions: [] });
  expect(rows.filter((row) => row.met !== null)).toEqual([]);
});

test('ratios come first, and the reference is raw Node', () => {
  const [head, , first] = tableOf(kinds.hit).split('\n');
  expect(head).toMatch(/^\| \| × raw \|/);
  expect(first).toMatch(/^\| gateway \| 0\.95 \(0\.95–0\.95\) \| 1\.05 /);
});

test('beside an older build, that build is the reference', () => {
  expect(tableOf([measured('gateway', [2]), measured('gateway-old', [1]), measured('raw', [4])])).toContain(
    '× gateway-old',
  );
});

const machine = { date: '', cpu: 'A & B', cores: 2, memoryGib: 8, kernel: '', commit: '', versions: { Node: '20' } };
const results: Results = { machine, rounds: 2, seconds: 1, leftOut: [], contestants: [], kinds, streams };

test('a machine that was busy with something else is said to have been', () => {
  expect(reportOf(results)).not.toContain('no quiet machine');
  const busy = { ...kinds.hit[0]!, rounds: kinds.hit[0]!.rounds.map((round) => ({ ...round, others: 0.3 })) };
  expect(reportOf({ ...results, kinds: { hit: [busy] } })).toContain('no quiet machine');
});

test('the chart is well-formed, with a bar for each contestant of each kind', () => {
  const svg = chart(results, 'rate');
  expect(svg.match(/<rect /g)).toHaveLength(1 + 3 + 5 + 2);
  expect(svg).toContain('A &#38; B');
  expect(svg).not.toMatch(/NaN|undefined/);
  // A gateway at 0.95 of the rate needs 1.05 of the CPU time.
  expect(svg).toContain('>0.95<');
  expect(chart(results, 'cpuMicros')).toContain('>1.05<');
});

test('a section is replaced and all else stays; a page without it is an error', () => {
  const page = 'a\n<!-- x -->\nold\n<!-- /x -->\nb';
  expect(replaced(page, 'x', 'new')).toBe('a\n<!-- x -->\nnew\n<!-- /x -->\nb');
  expect(() => replaced(page, 'y', 'new')).toThrow('<!-- y -->');
});

test('the page has its section, and what the other benchmarks wrote there can be read', () => {
  expect(() => replaced(PAGE, 'speed', '')).not.toThrow();
  expect(goodputIn(PAGE)).toEqual({ goodput: expect.any(Number), throttled: expect.any(Number) });
  expect(goodputIn(PAGE)?.goodput).toBeGreaterThan(0.5);
  const rows = decisionsIn(PAGE).map(({ tenants, askers }) => [tenants, askers]);
  expect(rows).toEqual([10, 10_000].flatMap((tenants) => [1, 16].map((askers) => [tenants, askers])));
  for (const { rate, ratio } of decisionsIn(PAGE)) expect([rate > 1_000, ratio > 0.1]).toEqual([true, true]);
});
