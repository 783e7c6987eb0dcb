import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { descendants, parseCore, parseRss, parseStat, readTree } from './proc.mjs';
import { corrected, latencyOf, parseLog } from './rate.mjs';
import { parseSummary } from './wrk.mjs';

test('CPU time is user and system together, whatever a process calls itself', () => {
  const stat = '77 (a) R (b) S 5 77 77 0 -1 4194560 100 0 0 0 150 50 900 900 20 0 1 0 12 1000 200';
  expect(parseStat(stat)).toEqual({ pid: 77, parent: 5, cpuMs: 2_000 });
  expect(() => parseStat('77 (a) S')).toThrow('not a line');
});

test('what interrupts and the hypervisor took of a core is no program', () => {
  const stat = 'cpu  9 9 9 9\ncpu0 100 20 30 4000 5 600 700 800 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\n';
  expect(parseCore(stat, 0)).toBe(1_500);
  expect(() => parseCore(stat, 2)).toThrow('no core 2');
});

test('memory is what is resident; a process that is gone has none', () => {
  expect(parseRss('Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t     124 kB\n')).toBe(124 * 1024);
  expect(parseRss('')).toBe(0);
});

test('a master counts with its workers and theirs, and with no other process', () => {
  const all = [
    { pid: 2, parent: 1 },
    { pid: 4, parent: 3 },
    { pid: 3, parent: 2 },
    { pid: 5, parent: 1 },
  ];
  expect(descendants(all, 2).map(({ pid }) => pid)).toEqual([2, 3, 4]);
});

test('a real process and its child are read together', async () => {
  const child = spawn('sh', ['-c', '"$0" -e "setInterval(() => {}, 1000); console.log(1)" & wait', process.execPath], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  try {
    await once(child.stdout, 'data');
    // The shell alone is a few MiB, Node many.
    expect(readTree(child.pid!).rssBytes).toBeGreaterThan(20 * 1024 * 1024);
  } finally {
    process.kill(-child.pid!, 'SIGKILL');
  }
});

test('a request that was due behind a slow response counts with the time it would have waited', () => {
  expect(corrected([10, 250, 100], 100)).toEqual([10, 250, 100, 150, 50]);
});

test('percentiles are of the time after the connections were opened, with slow responses counted and corrected for', () => {
  const quick = Array.from({ length: 98 }, (_, i) => `${600_000 + i}\t200\t1000`);
  const lines = ['0\t200\t900000', ...quick, '700000\t200\t130000'].join('\n');
  const samples = parseLog(`${lines}\n`);
  expect(samples[0]).toEqual({ at: 0, status: 200, micros: 900_000 });
  expect(latencyOf(samples, 50_000)).toEqual({ p50: 1, p99: 80, p999: 130, late: 1 });
});

test('the summary of a load is read whole, and one that measured nothing is an error', () => {
  expect(parseSummary('Running 1s test\n\nSUMMARY 120 2000000 4800 3 1\n')).toEqual({
    ...{ requests: 120, seconds: 2, bytes: 4_800, above399: 3, broken: 1 },
  });
  expect(() => parseSummary('unable to connect')).toThrow('unable to connect');
});
