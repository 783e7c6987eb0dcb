import type { ChildProcess } from 'node:child_process';
import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, configuration } from '../support/gateway.ts';
import { buildImage, IMAGE_UID, type Image, REPOSITORY, seal, start } from '../support/image.ts';

describe('the image, its steps carried out in a clean folder', () => {
  let scratch = '';
  let image: Image;

  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'patchgate-image-'));
    // mkdtemp makes it for its owner alone.
    await chmod(scratch, 0o755);
    image = await buildImage(scratch);
    await seal(image);
  }, 400_000);
  afterAll(async () => {
    for (const name of scratch === '' ? [] : await readdir(scratch, { recursive: true })) {
      const path = join(scratch, name);
      if ((await lstat(path)).isDirectory()) await chmod(path, 0o755);
    }
    await rm(scratch, { recursive: true, force: true });
  }, 60_000);

  test('holds what the process needs, none of what building it took, and nothing else', async () => {
    expect((await readdir(join(image.root, 'app'))).sort()).toEqual([
      'LICENSE',
      'dist',
      'health.mjs',
      'node_modules',
      'package.json',
    ]);
    const lock = JSON.parse(await readFile(join(REPOSITORY, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { dev?: boolean; optional?: boolean }>;
    };
    const packages = Object.entries(lock.packages).filter(([path]) => path !== '');
    const isInside = (path: string) =>
      stat(join(image.root, 'app', path)).then(
        () => true,
        () => false,
      );
    for (const [path, { dev = false, optional = false }] of packages) {
      if (!optional) expect([path, await isInside(path)]).toEqual([path, !dev]);
    }
    expect(packages.filter(([, { dev }]) => !dev).length).toBeGreaterThan(20);
  });

  test('is small: its packages are below 70 MB, its program below 3 MB', async () => {
    expect(await bytesIn(join(image.root, 'app/node_modules'))).toBeLessThan(70e6);
    expect(await bytesIn(join(image.root, 'app/dist'))).toBeLessThan(3e6);
  });

  test('runs as a user by number that is not root, and may write nowhere', async () => {
    expect(image.user).toBe(`${IMAGE_UID}:${IMAGE_UID}`);
    const tries = `
      const { writeFileSync } = require('node:fs');
      const tried = ['/app/x', '/tmp/x', '/etc/x', '/var/tmp/x'].map((path) => {
        try { writeFileSync(path.replace('/app', process.cwd()), ''); return 'written'; } catch (error) { return error.code; }
      });
      console.log(JSON.stringify({ uid: process.getuid(), tried }));`;
    const child = start(image, ['/nodejs/bin/node', '-e', tries], {});
    const { uid, tried } = JSON.parse(await text(child.stdout!)) as { uid: number; tried: string[] };
    // A test that is not root can neither become another user nor take its own file systems away.
    const asRoot = process.getuid?.() === 0;
    expect(uid).toBe(asRoot ? IMAGE_UID : process.getuid?.());
    expect(tried[0]).toMatch(/EROFS|EACCES/);
    if (asRoot) expect(tried).toEqual(['EROFS', 'EROFS', 'EROFS', 'EROFS']);
  });

  test('serves, says by its health check whether it is ready, and SIGTERM ends it with 0', async () => {
    const simulator = await createSimulator();
    const config = configuration(simulator.url, { drain: { delay: '2s', timeout: '5s' } });
    await writeFile(join(scratch, 'gateway.yaml'), JSON.stringify(config), { mode: 0o644 });
    expect(image.cmd).toEqual(['serve', '--config', '/etc/patchgate/gateway.yaml']);
    const cmd = image.cmd.map((arg) => arg.replace('/etc/patchgate', scratch));
    const child = start(image, [...image.entrypoint, ...cmd], {});
    const exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
    const { traffic, admin } = await listening(child);
    const health = async () => {
      const check = start(image, image.health, { HEALTH_URL: `http://127.0.0.1:${admin}/readyz` });
      const code = new Promise((resolve) => check.once('exit', resolve));
      return { said: (await text(check.stdout!)).trim(), code: await code };
    };
    expect(await health()).toEqual({ said: '200 {"ready":true,"reasons":[]}', code: 0 });
    const url = `http://127.0.0.1:${traffic}/api/v1/flows`;
    const answer = await fetch(url, { headers: { Authorization: `Bearer ${BILLING_KEY}` } });
    expect([answer.status, simulator.stats().arrived]).toEqual([200, 1]);
    expect(image.stopSignal).toBe('SIGTERM');
    child.kill(image.stopSignal as NodeJS.Signals);
    expect(await untilUnready(health)).toEqual({ said: '503 {"ready":false,"reasons":["draining"]}', code: 1 });
    expect(await exited).toEqual({ code: 0, signal: null });
    const gone = await health();
    expect(gone.code).toBe(1);
    expect(gone.said).toContain('ECONNREFUSED');
    await simulator.close();
  });

  test('has the other commands too: the simulator, and the check of a configuration', async () => {
    const child = start(image, [...image.entrypoint, 'simulate', '--port', '0'], {});
    for await (const chunk of child.stdout!) if (String(chunk).includes('a stand-in for Patchworks')) break;
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    expect(await exited).toBe(0);
    const check = start(image, [...image.entrypoint, 'check', '--config', '/nowhere/gateway.yaml'], {});
    expect(await text(check.stderr!)).toContain('/nowhere/gateway.yaml: cannot be read: no such file');
  });
});

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder, { recursive: true })) bytes += (await lstat(join(folder, name))).size;
  return bytes;
}

/** The ports that it has taken. */
async function listening(child: ChildProcess): Promise<{ traffic: number; admin: number }> {
  let said = '';
  let complaint = '';
  child.stderr!.on('data', (chunk) => {
    complaint += chunk;
  });
  return new Promise((resolve, reject) => {
    child.once('exit', () => reject(new Error(`it ended:\n${said}\n${complaint}`)));
    child.stdout!.on('data', (chunk) => {
      said += chunk;
      const line = said.split('\n').find((each) => each.includes('"msg":"listening"') && each.endsWith('}'));
      if (line === undefined) return;
      const { traffic, admin } = JSON.parse(line) as Record<'traffic' | 'admin', { port: number }>;
      resolve({ traffic: traffic.port, admin: admin.port });
    });
  });
}

async function untilUnready<T extends { code: unknown }>(health: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const found = await health();
    if (found.code !== 0 || performance.now() > deadline) return found;
  }
}
