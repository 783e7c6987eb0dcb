import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { folder } from '../../test/support/process.ts';

const MODULE = new URL('../../dist/telemetry/log.js', import.meta.url).href;

/** A process of its own on the built writer. What it writes to standard error is what it reports to the test. */
function writing(body: string, stdout: 'pipe' | number = 'pipe') {
  const script = `import { once } from 'node:events';
    const { openLogWriter } = await import(${JSON.stringify(MODULE)});
    const writer = openLogWriter();
    const many = (n, from = 0) => { for (let i = from; i < from + n; i++) writer.write('line ' + i + ' ' + 'x'.repeat(100) + '\\n'); };
    const report = (value) => process.stderr.write(String(value) + '\\n');
    const told = () => once(process.stdin, 'data');
    ${body}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', stdout, 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const out: string[] = [];
  let err = '';
  child.stderr?.on('data', (chunk) => {
    err += chunk;
  });
  return {
    child,
    /** Standard output so far, from when it is first asked for: before, the test reads nothing. */
    read: () => {
      if (child.stdout?.listenerCount('data') === 0) child.stdout.on('data', (chunk) => void out.push(chunk));
      return out.join('');
    },
    reported: () => err,
    tell: () => child.stdin?.write('go\n'),
    async exit(): Promise<number | null> {
      // Its open end would keep the process from ending by itself.
      child.stdin?.end();
      return child.exitCode ?? ((await once(child, 'exit'))[0] as number | null);
    },
  };
}

/** All of standard output once it has ended, line by line. */
async function linesOf({ child, read }: { child: ChildProcess; read: () => string }): Promise<string[]> {
  read();
  child.stdin?.end();
  await once(child, 'close');
  return read().split('\n').slice(0, -1);
}

/** A process takes a while to start on a busy machine. */
const eventually = (check: () => void) => vi.waitFor(check, { timeout: 20_000 });

const numbered = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => `line ${from + i} ${'x'.repeat(100)}`);

describe('the last lines are written, whole and in order, when the process ends', () => {
  const endings: Record<string, string> = {
    'by itself': 'many(200); writer.write("last\\n")',
    'after it closed the writer': 'many(200); writer.write("last\\n"); await writer.close()',
    'by process.exit': 'many(30); writer.write("last\\n"); process.exit(0)',
    'by process.exit after other lines':
      'many(20); await new Promise((done) => setTimeout(done, 50)); many(10, 20); writer.write("last\\n"); process.exit(0)',
    'by an error that is not caught': 'many(30); writer.write("last\\n"); throw new Error("boom")',
  };
  for (const [how, body] of Object.entries(endings)) {
    it(how, async () => {
      const lines = await linesOf(writing(body));
      expect(lines).toEqual([...numbered(lines.length - 1), 'last']);
      expect(lines.length).toBeGreaterThan(30);
    });
  }
});

it('a line that comes while the writer closes, or later, is lost and counted, and ends nothing', async () => {
  const process = writing(`
    writer.write('first\\n');
    let closed = false;
    void writer.close().then(() => { closed = true });
    let late = 0;
    for (; !closed; late++) { writer.write('late\\n'); await new Promise(setImmediate) }
    writer.write('later\\n');
    report(writer.lost() - late);
  `);
  expect(await linesOf(process)).toEqual(['first']);
  expect(process.reported()).toBe('1\n');
});

describe('a reader that is slow', () => {
  it('gets all lines without being asked, though it pauses and the pipe is full again and again', async () => {
    const process = writing(
      'for (let turn = 0; turn < 300; turn++) { many(100, turn * 100); await new Promise(setImmediate) } report(writer.lost()); setInterval(() => {}, 1000)',
    );
    process.read();
    const pausing = setInterval(() => {
      process.child.stdout?.pause();
      setTimeout(() => process.child.stdout?.resume(), 20);
    }, 40);
    await eventually(() => expect(process.read()).toMatch(/line 29999 x{100}\n$/));
    clearInterval(pausing);
    expect(process.read()).toBe(`${numbered(30_000).join('\n')}\n`);
    expect(process.reported()).toBe('0\n');
  });

  it('or does not read at all neither blocks the process nor makes it grow: lines are lost and counted', async () => {
    const process = writing(`
      const before = process.memoryUsage().rss;
      let longest = 0;
      for (let turn = 0, last = performance.now(); turn < 400; turn++) {
        many(1000, turn * 1000);
        await new Promise(setImmediate);
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }
      report(JSON.stringify({ lost: writer.lost(), longest, grown: (process.memoryUsage().rss - before) / 2 ** 20 }));
      await told();
      await writer.close();
      report(writer.lost());
      await told();
    `);
    const report = async (line: number): Promise<string> => {
      await eventually(() => expect(process.reported().split('\n').length).toBeGreaterThan(line + 1));
      return process.reported().split('\n')[line]!;
    };
    const { lost, longest, grown } = JSON.parse(await report(0)) as Record<string, number>;
    // 8 MiB wait, and a pipe holds 64 KiB.
    const kept = 400_000 - lost!;
    expect(kept).toBeGreaterThan((7 * 2 ** 20) / 110);
    expect(kept).toBeLessThan((9 * 2 ** 20) / 105);
    expect(longest).toBeLessThan(1_000);
    expect(grown).toBeLessThan(100);
    process.tell();
    const lostInAll = Number(await report(1));
    process.tell();
    // The pipe still holds what it took; all else is lost.
    expect((await linesOf(process)).length).toBe(400_000 - lostInAll);
    expect(await process.exit()).toBe(0);
  });

  for (const [how, end] of Object.entries({ closes: 'await writer.close()', exits: 'process.exit(0)' })) {
    it(`or does not read holds up a process that ${how} for little more than a second`, async () => {
      const process = writing(`many(10000); report('full'); await told(); ${end}`);
      await eventually(() => expect(process.reported()).toContain('full'));
      const began = performance.now();
      process.tell();
      expect(await process.exit()).toBe(0);
      expect(performance.now() - began).toBeLessThan(5_000);
    });
  }
});

describe('an output that is broken', () => {
  it('costs lines, and each is counted: a line was received or is lost', async () => {
    const process = writing(`
      many(1000);
      await told();
      many(1000, 1000);
      await new Promise((done) => setTimeout(done, 500));
      many(1000, 2000);
      await writer.close();
      report(writer.lost());
      process.exit(7);
    `);
    process.read();
    await eventually(() => expect(process.read()).toBe(`${numbered(1_000).join('\n')}\n`));
    process.child.stdout?.destroy();
    process.tell();
    expect(await process.exit()).toBe(7);
    await eventually(() => expect(process.reported()).toBe('2000\n'));
  });

  it('and is first written to when the process exits does not keep it from ending', async () => {
    const process = writing("report('ready'); await told(); many(10); process.exit(7)");
    await eventually(() => expect(process.reported()).toContain('ready'));
    process.child.stdout?.destroy();
    process.tell();
    expect(await process.exit()).toBe(7);
  });

  for (const end of ['await writer.close(); report(writer.lost()); process.exit(7)', 'process.exit(7)']) {
    it(`such as a full disk does not keep the process from ending by ${end.slice(0, end.indexOf('('))}`, async () => {
      const full = openSync('/dev/full', 'w');
      const process = writing(`many(500); ${end}`, full);
      closeSync(full);
      expect(await process.exit()).toBe(7);
      await eventually(() => expect(process.reported()).toBe(end.includes('report') ? '500\n' : ''));
    });
  }

  it('and has a reader again gets the lines from then on', async () => {
    await using files = await folder({});
    const fifo = join(files.path, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const end = openSync(fifo, constants.O_WRONLY);
    const process = writing(
      'await told(); many(10); await new Promise((done) => setTimeout(done, 500)); report(writer.lost()); await told(); many(10, 10); await writer.close(); report(writer.lost())',
      end,
    );
    closeSync(end);
    closeSync(reader);
    process.tell();
    await eventually(() => expect(process.reported()).toBe('10\n'));
    const again = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    process.tell();
    expect(await process.exit()).toBe(0);
    const buffer = Buffer.alloc(64 * 1024);
    expect(buffer.toString('utf8', 0, readSync(again, buffer))).toBe(`${numbered(10, 10).join('\n')}\n`);
    closeSync(again);
    await eventually(() => expect(process.reported()).toBe('10\n10\n'));
  });
});
