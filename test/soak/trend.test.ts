import { describe, expect, test } from 'vitest';
import { seededRandom } from '../support/quota-simulation.ts';
import { isCalm, scheduleOf } from './faults.mjs';
import { Latencies } from './latencies.mjs';
import { createLog } from './log.mjs';
import { judgeTrend, trendOf } from './trend.mjs';
import { connectionsOf, latenciesOf, trendsOf, unexplained } from './verdict.mjs';

/** Four settled samples in the calm time of each cycle of five minutes, as a soak of half an hour has them. */
const settled = (value: (seconds: number) => number) =>
  [300, 600, 900, 1_200, 1_500].flatMap((cycle) =>
    [215, 235, 255, 275].map((at) => ({ at: cycle + at, value: value(cycle + at) })),
  );
const judged = (value: (seconds: number) => number) => judgeTrend(trendOf(settled(value)), 30);

describe('the judge of growth', () => {
  test('finds a leak of 60 MB an hour under noise of 10 MB', () => {
    const random = seededRandom(1);
    expect(judged((seconds) => 150 + (seconds * 60) / 3600 + (random() - 0.5) * 10)).toBe('grows');
  });

  test('finds what stays as it is flat under the same noise', () => {
    const random = seededRandom(2);
    expect(judged(() => 150 + (random() - 0.5) * 10)).toBe('flat');
  });

  test('takes growth that is tolerated, and what shrinks, for flat', () => {
    expect(judged((seconds) => 150 + (seconds * 10) / 3600)).toBe('flat');
    expect(judged((seconds) => 150 - (seconds * 90) / 3600)).toBe('flat');
  });

  test('is unclear where the noise is larger than the bound, or the points are few', () => {
    const random = seededRandom(4);
    expect(judged(() => 150 + (random() - 0.5) * 200)).toBe('unclear');
    expect(judgeTrend(trendOf(settled(() => 1).slice(0, 3)), 30)).toBe('unclear');
  });

  test('is less sure where neighbours are alike than where they are not', () => {
    const points = Array.from({ length: 180 }, (_, i) => ({ at: i * 5, value: Math.sin(i / 30) }));
    const shuffled = points.map((each, i) => ({ at: each.at, value: points[(i * 71) % points.length]?.value ?? 0 }));
    expect(trendOf(points)?.error).toBeGreaterThan((trendOf(shuffled)?.error ?? 0) * 1.5);
  });

  const still = {
    ...{ rssMb: 150, heapMb: 40, externalMb: 5, handles: 12, loopP99Ms: 1, inFlight: 1, waiting: 0 },
    ...{ descriptors: 200, callers: 150, upstream: 30, abandoned: 1, otherDescriptors: 20 },
  };
  const samplesOf = (second: (i: number) => Partial<typeof still>) =>
    Array.from({ length: 360 }, (_, i) => ({
      ...{ at: i * 5, settled: i % 4 === 0, redis: null, generatorP99Ms: 1 },
      gateways: [still, { ...still, ...second(i) }],
    }));

  test('finds the one gateway and the one measure that grow', () => {
    const grown = trendsOf(
      samplesOf((i) => ({ handles: 12 + i })),
      1_800,
    ).filter(({ finding }) => finding !== 'flat');
    expect(grown.map(({ gateway, name }) => `${gateway} ${name}`)).toEqual([
      '2 handles besides connections of callers',
    ]);
  });

  test('does not look at what a fault or garbage adds for a while', () => {
    const samples = samplesOf((i) => ({ rssMb: i % 4 === 0 ? 150 : 150 + i }));
    expect(trendsOf(samples, 1_800).every(({ finding }) => finding === 'flat')).toBe(true);
  });

  test('finds the gateway that keeps connections others have left', () => {
    const held = connectionsOf(samplesOf((i) => ({ abandoned: i < 200 ? 11 : 1 })));
    expect(held.map(({ holds }) => holds)).toEqual([true, false]);
    expect(connectionsOf(samplesOf((i) => ({ abandoned: i === 200 ? 30 : 1 }))).every(({ holds }) => holds)).toBe(true);
  });
});

describe('the judge of outcomes', () => {
  const schedule = scheduleOf(1_800);

  test('every third of a run has calm times, and each fault as often', () => {
    const calmIn = (from: number) =>
      Array.from({ length: 120 }, (_, i) => from + i * 5).filter((at) => isCalm(schedule, at, at + 5)).length * 5;
    for (const from of [0, 600, 1_200]) expect(calmIn(from)).toBeGreaterThan(90);
    const names = schedule.map(({ name }) => name);
    expect(names.filter((name) => name === 'upstream stalls')).toHaveLength(6);
    expect([...new Set(names)]).toHaveLength(6);
  });

  test('an outcome that is wrong in calm times is found, the same during a fault is not, a broken connection always is', () => {
    const [storm] = schedule.filter(({ name }) => name === 'upstream answers 503');
    const [surge] = schedule.filter(({ name }) => name === 'surge');
    const [during, calm] = [(storm?.from ?? 0) + 1, (surge?.calmFrom ?? 0) + 6];
    const log = createLog();
    log.end('pass-through', '503', during, 3);
    log.end('pass-through', '503', calm, 3);
    log.end('hit', '200', calm, 3);
    log.end('hit', 'broken: ECONNRESET', during, 3);
    expect(unexplained(log, schedule)).toEqual({ 'pass-through 503': 1, 'hit broken: ECONNRESET': 1 });
  });

  test('a last third that is slower is seen, and faults in it are left out', () => {
    const log = createLog();
    const [lastFault] = schedule.filter(({ from }) => from > 1_200);
    for (let at = 0; at < 1_800; at++) log.end('hit', '200', at, at > 1_200 ? 9 : 1);
    log.end('hit', '200', (lastFault?.from ?? 0) + 1, 10_000);
    const [hit] = latenciesOf(log, schedule, 1_800, []);
    expect(hit?.p50.first).toBeCloseTo(1, 1);
    expect(hit?.p99.last).toBeGreaterThan(8.8);
    expect(hit?.p99.last).toBeLessThan(9.4);
  });

  test('quantiles are within 2 %', () => {
    const latencies = new Latencies();
    for (let i = 1; i <= 1_000; i++) latencies.add(i / 10);
    for (const [part, exact] of [
      [0.5, 50],
      [0.99, 99],
      [1, 100],
    ] as const) {
      expect((latencies.quantile(part) ?? 0) / exact).toBeGreaterThanOrEqual(0.999);
      expect((latencies.quantile(part) ?? 0) / exact).toBeLessThan(1.021);
    }
  });
});
