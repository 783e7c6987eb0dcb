import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { folder } from '../../test/support/process.ts';
import { systemClock } from '../clock.ts';
import { createFileReaders, reasonOf } from './read-file.ts';

const MIB = 1024 ** 2;
const reader = () => createFileReaders({ clock: systemClock })();
const reasonFor = (reading: Promise<string>): Promise<string> =>
  reading.then((text) => `was read: ${text.length} characters`, reasonOf);

describe('a file of the configuration', () => {
  test('is read whole, also one of the kernel, whose size is 0', async () => {
    await using files = await folder({ a: 'ä\r\n'.repeat(100_000) });
    expect(await reader()(join(files.path, 'a'))).toBe('ä\r\n'.repeat(100_000));
    expect(await reader()('/proc/self/status')).toMatch(/^Name:/);
  });

  test('that never ends, or is no file, is refused at once, with the reason', async () => {
    await using files = await folder({ 'in/x': '' });
    const at = (name: string) => join(files.path, name);
    execFileSync('mkfifo', [at('fifo')]);
    expect(await reasonFor(reader()(at('fifo')))).toBe('is not a regular file');
    expect(await reasonFor(reader()('/dev/zero'))).toBe('is not a regular file');
    expect(await reasonFor(reader()('/dev/stdin'))).toMatch(/is not a regular file|no such file|permission denied/);
    expect(await reasonFor(reader()(at('in')))).toBe('is a directory');
    expect(await reasonFor(reader()(at('nothing')))).toBe('no such file');
  });

  test('has at most 8 MiB', async () => {
    await using files = await folder({});
    const path = join(files.path, 'large');
    await writeFile(path, Buffer.alloc(8 * MIB, 'x'));
    expect(await reasonFor(reader()(path))).toBe(`was read: ${8 * MIB} characters`);
    await writeFile(path, 'y', { flag: 'a' });
    expect(await reasonFor(reader()(path))).toBe('is larger than 8 MiB');
    // Sparse: nothing of it is on the disk.
    execFileSync('truncate', ['--size', '1T', path]);
    expect(await reasonFor(reader()(path))).toBe('is larger than 8 MiB');
  });
});

describe('a file system that does not answer', () => {
  test('costs a load 10 s for all its files together', async () => {
    const clock = new ManualClock();
    const readFile = createFileReaders({ clock, read: () => new Promise(() => {}) })();
    const first = reasonFor(readFile('a'));
    clock.advance(9_999);
    const second = reasonFor(readFile('b'));
    clock.advance(1);
    expect([await first, await second]).toEqual(['not read within 10 s', 'not read within 10 s']);
  });

  test('is not asked again for a file before it has answered, by any load', async () => {
    const clock = new ManualClock();
    let answer = (_: string): void => {};
    let asked = 0;
    const readers = createFileReaders({
      clock,
      read: () => {
        asked += 1;
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
    });
    const first = reasonFor(readers()('a'));
    clock.advance(10_000);
    await first;
    expect(await reasonFor(readers()('a'))).toBe('an earlier read of it has not ended');
    expect(asked).toBe(1);
    answer('late');
    await new Promise((resolve) => setImmediate(resolve));
    const again = readers()('a');
    answer('in time');
    expect([await again, asked]).toEqual(['in time', 2]);
  });
});
