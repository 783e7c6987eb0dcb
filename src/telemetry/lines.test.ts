import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
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

function toFile() {
  const path = join(scratch, 'log');
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

  it('are there when a flush returns', () => {
    const file = toFile();
    file.lines.write('only\n');
    expect(file.read()).toBe('');
    file.lines.flush();
    expect(file.read()).toBe('only\n');
    file.lines.flush();
    file.close();
  });

  it('are all there when a flush meets a write in progress', async () => {
    const file = toFile();
    const expected = Array.from({ length: 3_000 }, (_, i) => `line ${i}\n`);
    for (const line of expected) file.lines.write(line);
    file.lines.flush();
    await vi.waitFor(() => expect(file.read().split('\n').sort()).toEqual(`${expected.join('')}`.split('\n').sort()));
    expect(file.lines.dropped()).toBe(0);
    file.close();
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
    'by process.exit while a write is in progress':
      'many(2000); setImmediate(() => { many(3000); lines.write("last\\n"); process.exit(0) })',
    // Touching stdout makes the pipe non-blocking: it takes a part at a time, or nothing for now.
    'while its pipe is full again and again': 'process.stdout; many(5000); lines.write("last\\n"); process.exit(0)',
    'by itself, on such a pipe': 'process.stdout; many(5000); lines.write("last\\n")',
    'by an error nobody caught': 'many(5000); lines.write("last\\n"); throw new Error("boom")',
    'by a signal that is handled':
      'process.on("SIGTERM", () => { lines.write("last\\n"); lines.flush(); process.exit(0) }); many(5000); process.kill(process.pid, "SIGTERM"); setInterval(() => {}, 1000)',
  };
  for (const [how, body] of Object.entries(endings)) {
    it(`are all written when it ends ${how}`, async () => {
      const { out } = await end(run(body));
      const lines = out.trimEnd().split('\n');
      expect(lines).toHaveLength(5001);
      expect(lines).toContain('last');
    });
  }

  it('do not keep it from ending when their reader is gone', async () => {
    const child = run('many(10); setTimeout(() => { many(5000); lines.flush(); process.exit(7) }, 300)');
    child.stdout.destroy();
    expect((await end(child)).code).toBe(7);
  });

  it('do not keep it from ending when their reader does not read, and never grow without bound', async () => {
    const child = run(
      'process.stdout; many(200000); process.stderr.write(String(lines.dropped())); lines.flush(); process.exit(7)',
    );
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
