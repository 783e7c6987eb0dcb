import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { writeLines } from './lines.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'patchgate-lines-'));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

let files = 0;
function toFile() {
  files += 1;
  const path = join(scratch, `log-${files}`);
  const fd = openSync(path, 'w');
  return { lines: writeLines(fd), read: () => readFileSync(path, 'utf8'), close: () => closeSync(fd) };
}

describe('lines to a file', () => {
  it('wait for company, and come out in order without being asked', async () => {
    const file = toFile();
    const expected = Array.from({ length: 20_000 }, (_, i) => `line ${i} ä\n`);
    for (const line of expected) file.lines.write(line);
    expect(file.read()).not.toBe(expected.join(''));
    await vi.waitFor(() => expect(file.read()).toBe(expected.join('')), { timeout: 5_000 });
    file.close();
  });

  it('leave nothing behind in the process: one listener while there is something to write, none after', async () => {
    const before = process.listenerCount('exit');
    const many = Array.from({ length: 20 }, toFile);
    for (let turn = 0; turn < 20; turn++) {
      for (const { lines } of many) for (let i = 0; i < 211; i++) lines.write(`${'x'.repeat(100)}\n`);
      expect(process.listenerCount('exit')).toBe(before + 1);
      await new Promise(setImmediate);
    }
    await vi.waitFor(() => expect(process.listenerCount('exit')).toBe(before), { timeout: 5_000 });
    for (const { close } of many) close();
  });

  it('are there when a flush returns', () => {
    const file = toFile();
    file.lines.write('only\n');
    expect(file.read()).toBe('');
    file.lines.flush();
    expect(file.read()).toBe('only\n');
    file.lines.flush();
    file.close();
  });

  it('are made when they are written, but for those behind a reader that is slow: they would hold what they are made of', async () => {
    const path = join(scratch, 'fifo');
    execFileSync('mkfifo', [path]);
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const lines = writeLines(fd);
    let made = 0;
    const line = {
      length: 450,
      toString: () => {
        made += 1;
        return `${'x'.repeat(999)}\n`;
      },
    };
    lines.write(line);
    expect(made).toBe(0);
    // More than a pipe holds.
    for (let i = 1; i < 500; i++) lines.write(line);
    expect(made).toBe(500);
    for (let i = 500; i < 20_000; i++) lines.write(line);
    // No more wait than their true length allows.
    expect(made).toBe(20_000);
    expect(lines.dropped()).toBeGreaterThan(20_000 - (8 * 1024 * 1024) / 1_000 - 200);
    lines.flush();
    closeSync(fd);
  });

  it('that can not be written are counted, and a flush returns all the same', () => {
    const fd = openSync('/dev/full', 'w');
    const lines = writeLines(fd);
    lines.write('one\n');
    lines.write('two\n');
    lines.flush();
    expect(lines.dropped()).toBe(2);
    closeSync(fd);
  });
});

/** Runs a script on the writer in a process of its own, on Node alone: what matters is how that process ends. */
describe('lines of a process that ends', () => {
  let module: string;
  beforeAll(async () => {
    module = mkdtempSync(join(tmpdir(), 'patchgate-lines-module-'));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    const target = join(root, 'src/telemetry/lines.ts');
    const options = [
      '--ignoreConfig',
      '--outDir',
      module,
      '--module',
      'nodenext',
      '--target',
      'es2023',
      '--types',
      'node',
    ];
    const { code, err } = await end(spawn(process.execPath, [tsc, target, ...options], { cwd: root }));
    expect(`${code} ${err}`).toMatch(/^0/);
    return () => rmSync(module, { recursive: true, force: true });
  });

  const run = (body: string) => {
    const code = `const { writeLines } = await import(${JSON.stringify(join(module, 'lines.js'))});
      const lines = writeLines(1);
      const many = (n) => { for (let i = 0; i < n; i++) lines.write('line ' + i + ' ' + 'x'.repeat(100) + '\\n'); };
      ${body}`;
    return spawn(process.execPath, ['--input-type=module', '-e', code]);
  };

  const endings: Record<string, string> = {
    'by itself': 'many(5000); lines.write("last\\n")',
    'by process.exit': 'many(5000); lines.write("last\\n"); process.exit(0)',
    'by process.exit in the middle of batches':
      'many(2000); setImmediate(() => { many(3000); lines.write("last\\n"); process.exit(0) })',
    'by an error nobody caught': 'many(5000); lines.write("last\\n"); throw new Error("boom")',
    'by a signal that is handled':
      'process.on("SIGTERM", () => { lines.write("last\\n"); lines.flush(); process.exit(0) }); many(5000); process.kill(process.pid, "SIGTERM"); setInterval(() => {}, 1000)',
  };
  for (const [how, body] of Object.entries(endings)) {
    it(`are all written, whole and in order, when it ends ${how}`, async () => {
      const { out } = await end(run(body));
      const numbers = out
        .trimEnd()
        .split('\n')
        .map((line) => /^line (\d+) x{100}$/.exec(line)?.[1] ?? line);
      expect(numbers).toHaveLength(5001);
      expect(numbers.at(-1)).toBe('last');
      // The script that writes in two goes counts twice from zero.
      const breaks = numbers
        .slice(0, -1)
        .filter((each, i) => Number(each) !== (i > 0 ? Number(numbers[i - 1]) + 1 : 0));
      expect(breaks.filter((each) => each !== '0')).toEqual([]);
    });
  }

  it('all reach a reader that keeps up, however little the process pauses', async () => {
    const { out, err } = await end(
      run(
        'for (let turn = 0; turn < 1000; turn++) { many(100); await new Promise(setImmediate) } process.stderr.write(String(lines.dropped()))',
      ),
    );
    expect([out.trimEnd().split('\n').length, err]).toEqual([100_000, '0']);
  });

  it('that a full pipe did not take follow by themselves, though nothing more is logged', async () => {
    const child = run('many(50000); setInterval(() => {}, 1000)');
    let out = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    await vi.waitFor(() => expect(out).toMatch(/line 49999 x{100}\n$/), { timeout: 10_000 });
    child.kill('SIGKILL');
    expect((await end(child)).code).toBeNull();
  });

  it('do not keep it from ending when their reader is gone', async () => {
    const child = run('many(10); setTimeout(() => { many(5000); lines.flush(); process.exit(7) }, 300)');
    child.stdout.destroy();
    expect((await end(child)).code).toBe(7);
  });

  it('do not keep it from ending when their reader does not read, and never grow without bound', async () => {
    const child = run('many(200000); process.stderr.write(String(lines.dropped())); lines.flush(); process.exit(7)');
    let err = '';
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    // 'close' would wait for somebody to read.
    const code = await new Promise((resolve) => child.once('exit', resolve));
    child.stdout.destroy();
    expect(code).toBe(7);
    await vi.waitFor(() => expect(Number(err)).toBeGreaterThan(0));
  });
});

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function end(child: ReturnType<typeof spawn>): Promise<Ended> {
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    child.stdout?.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr?.on('data', (chunk) => {
      err += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out, err }));
  });
}
