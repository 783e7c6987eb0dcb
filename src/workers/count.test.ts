import { expect, test } from 'vitest';
import { workersOf } from './count.ts';

const kernel = (files: Record<string, string>) => (path: string) => files[path] ?? null;

test('a number is taken as it is, whatever the machine has', () => {
  expect(workersOf(3, 1, kernel({}))).toBe(3);
});

test.each<[why: string, cores: number, files: Record<string, string>, workers: number]>([
  ['all cores, where nothing is known of a quota', 4, {}, 4],
  ['all cores, where there is none', 4, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }, 4],
  ['the quota of a container', 8, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '200000 100000\n' }, 2],
  ['rounded down: a worker without a core is throttled', 8, { '/sys/fs/cgroup/cpu.max': '350000 100000\n' }, 3],
  ['one at least', 8, { '/sys/fs/cgroup/cpu.max': '50000 100000\n' }, 1],
  [
    'the least of its group and those around it',
    8,
    {
      '/proc/self/cgroup': '0::/system.slice/patchgate.service\n',
      '/sys/fs/cgroup/system.slice/patchgate.service/cpu.max': '600000 100000\n',
      '/sys/fs/cgroup/system.slice/cpu.max': '400000 100000\n',
    },
    4,
  ],
])('auto is %s', (_, cores, files, workers) => {
  expect(workersOf('auto', cores, kernel(files))).toBe(workers);
});
