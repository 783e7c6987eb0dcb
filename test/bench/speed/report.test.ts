import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { goodputIn, replaced } from '../sections.mjs';
import { chart } from './chart.mjs';
import { type Results, reportOf } from './page.mjs';
import type { Measured } from './rounds.mjs';
import { tableOf } from './table.mjs';
import { targetsOf } from './targets.mjs';

const MIB = 1024 * 1024;
const PAGE = readFileSync(new URL('../../../docs/benchmarks.md', import.meta.url), 'utf8');

function measured(id: string, rates: number[], more: Partial<Measured> = {}): Measured {
  const rounds = rates.map((rate) => ({ rate, cpuMicros: 1e6 / rate, busy: 1, others: 0.01 }));
  return { id, name: id, rounds, latency: [], startMs: 400, idleBytes: 90 * MIB, endBytes: 120 * MIB, ...more };
}

const kinds = {
  hit: [
    measured('gateway', [500, 500]),
    measured('gateway-quiet', [600, 600]),
    measured('raw', [1_000, 1_000]),
    measured('hono', [980, 980]),
  ],
  pass: [measured('gateway', [700]), measured('gateway-redis', [440]), measured('fastify', [500])],
};
const met = (...args: Parameters<typeof targetsOf>) =>
  Object.fromEntries(targetsOf(...args).map((row) => [`${row.work}: ${row.target}`, row.met]));

test('a target is met or not by what was measured', () => {
  expect(met(kinds, { goodput: 0.99, throttled: 0 })).toEqual({
    'goodput, 3 replicas, jittery latency: ≥ 0.985 × ceiling, no 429 from the upstream': true,
    'cached hit, access log off: ≥ 0.55 × raw': true,
    'cached hit, access log on: ≥ 0.45 × raw': true,
    'cached hit, access log off: ≥ 0.60 × hono': true,
    'cached hit, access log on: ≥ 0.50 × hono': true,
    'pass-through, everything on, embedded state: ≥ 1.30 × fastify': true,
    'pass-through, everything on, state in Redis: ≥ 0.90 × fastify': false,
    'memory, idle: ≤ 100 MiB': true,
    'start, from exec to ready: ≤ 0.70 s': true,
  });
});

test('a target that is missed by a little is missed', () => {
  const heavy = { idleBytes: 101 * MIB, startMs: 701 };
  const slow = { hit: [measured('gateway', [449], heavy), measured('raw', [1_000])] };
  expect(Object.values(met(slow, { goodput: 1, throttled: 0.1 })).filter((each) => each !== null)).toEqual([
    ...[false, false, false, false],
  ]);
});

test('a run that measured nothing meets nothing', () => {
  expect(targetsOf({}, null).filter((row) => row.met !== null)).toEqual([]);
});

test('ratios come first, and the reference is raw Node', () => {
  const [head, , first] = tableOf(kinds.hit).split('\n');
  expect(head).toMatch(/^\| \| × raw \|/);
  expect(first).toMatch(/^\| gateway \| 0\.50 \(0\.50–0\.50\) \| 2\.00 /);
});

test('beside an older build, that build is the reference', () => {
  expect(tableOf([measured('gateway', [2]), measured('gateway-old', [1]), measured('raw', [4])])).toContain(
    '× gateway-old',
  );
});

const machine = { date: '', cpu: 'A & B', cores: 2, memoryGib: 8, kernel: '', commit: '', versions: { Node: '20' } };
const results: Results = { machine, rounds: 2, seconds: 1, contestants: [], kinds, streams: [] };

test('a machine that was busy with something else is said to have been', () => {
  expect(reportOf(results)).not.toContain('no quiet machine');
  const busy = { ...kinds.hit[0]!, rounds: kinds.hit[0]!.rounds.map((round) => ({ ...round, others: 0.3 })) };
  expect(reportOf({ ...results, kinds: { hit: [busy] } })).toContain('no quiet machine');
});

test('the chart is well-formed, with a bar for each contestant of each kind', () => {
  const svg = chart(results);
  expect(svg.match(/<rect /g)).toHaveLength(1 + 4 + 3);
  expect(svg).toContain('A &#38; B');
  expect(svg).not.toMatch(/NaN|undefined/);
  expect(svg).toContain('>0.50<');
});

test('a section is replaced and all else stays; a page without it is an error', () => {
  const page = 'a\n<!-- x -->\nold\n<!-- /x -->\nb';
  expect(replaced(page, 'x', 'new')).toBe('a\n<!-- x -->\nnew\n<!-- /x -->\nb');
  expect(() => replaced(page, 'y', 'new')).toThrow('<!-- y -->');
});

test('the page has its section, and the goodput that the simulation wrote there can be read', () => {
  expect(() => replaced(PAGE, 'speed', '')).not.toThrow();
  expect(goodputIn(PAGE)).toEqual({ goodput: expect.any(Number), throttled: expect.any(Number) });
  expect(goodputIn(PAGE)?.goodput).toBeGreaterThan(0.5);
});
