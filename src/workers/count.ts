import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

/** Reads a file of the kernel; null where there is none. */
export type ReadKernel = (path: string) => string | null;

const fromKernel: ReadKernel = (path) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
};

/** How many workers `workers` means on this machine. */
export function workersOf(
  setting: number | 'auto',
  cores: number = availableParallelism(),
  read: ReadKernel = fromKernel,
): number {
  return setting === 'auto' ? Math.max(1, Math.min(cores, Math.floor(cpuQuota(read)))) : setting;
}

const CGROUPS = '/sys/fs/cgroup';

/**
 * Cores that the cgroup of this process may use (cgroup v2, `cpu.max`: microseconds in a period of so many), or one around it; no
 * limit where there is none, or it can not be read. A container sees its own group as the root.
 */
function cpuQuota(read: ReadKernel): number {
  const own = /^0::(\/.*)$/m.exec(read('/proc/self/cgroup') ?? '')?.[1] ?? '/';
  let least = Number.POSITIVE_INFINITY;
  for (let group = own; ; group = dirname(group)) {
    const [, quota, period] = /^(\d+) (\d+)/.exec(read(join(CGROUPS, group, 'cpu.max')) ?? '') ?? [];
    if (Number(period) > 0) least = Math.min(least, Number(quota) / Number(period));
    if (group === '/') return least;
  }
}
