import { createHash } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BILLING_KEY, eventually } from '../support/gateway.ts';
import { startGateway } from '../support/gateway-process.ts';
import { type Folder, folder, patchgate } from '../support/process.ts';

const GATEWAY = 'accounts: { main: { credentials: [{ id: p, apiKey: fake }] } }\n';
const TENANTS = '# Ours.\ntenants:\n  billing:   # the first\n    keys: []\n    quota: { rate: 60 }\n';
const MONTH = new Date().toISOString().slice(0, 7);
const KEY = /pgk_billing_[\w-]{43}/;
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

let files: Folder;
beforeEach(async () => {
  files = await folder({ 'config/gateway.yaml': GATEWAY, 'config/tenants.yaml': TENANTS });
});
afterEach(() => files[Symbol.asyncDispose]());
const file = () => readFile(join(files.path, 'config/tenants.yaml'), 'utf8');

async function outcome(line: string, options: { cwd?: string; env?: Record<string, string> } = {}) {
  await using process = patchgate(line.split(' '), { cwd: files.path, ...options });
  const { code } = await process.exited;
  return { code, stdout: process.stdout(), stderr: process.stderr() };
}

describe('key create', () => {
  test('prints YAML that the gateway accepts, and the key once and elsewhere', async () => {
    const { code, stdout, stderr } = await outcome('key create billing --expires 180d');
    const [made = ''] = KEY.exec(stderr) ?? [];
    expect([code, stderr]).toEqual([0, `key of billing, shown only once: ${made}\n`]);
    const [hint, ...yaml] = stdout.split(/(?<=\n)/);
    expect(hint).toBe('# config/tenants.yaml: put the last line below "keys:" of billing, or let --write do it\n');
    expect(yaml.join('')).toMatch(
      new RegExp(
        `^tenants:\n  billing:\n    keys:\n      - { id: ${MONTH}, sha256: ${sha256(made)}, expires: \\S+Z }\n$`,
      ),
    );
    expect(await file()).toBe(TENANTS);
    await writeFile(join(files.path, 'config/tenants.yaml'), stdout);
    expect(await outcome('check')).toMatchObject({ code: 0, stderr: '' });
  });

  test('needs no configuration, and knows the ids in use where there is one, valid or not', async () => {
    const elsewhere = await outcome('key create billing', { cwd: '/' });
    expect([elsewhere.code, elsewhere.stdout]).toEqual([
      0,
      expect.stringMatching(`^tenants:[^]*- { id: ${MONTH}, sha256:`),
    ]);
    await writeFile(join(files.path, 'config/gateway.yaml'), 'accounts: {}\n');
    await writeFile(join(files.path, 'config/tenants.yaml'), `tenants: { billing: { keys: [{ id: ${MONTH} }] } }\n`);
    expect((await outcome('key create billing')).stdout).toContain(`- { id: ${MONTH}-b, sha256:`);
  });

  test('with --write adds keys with ids of their own, and keeps everything else as it is', async () => {
    const made: string[] = [];
    for (const id of [MONTH, `${MONTH}-b`, `${MONTH}-c`]) {
      const { code, stdout, stderr } = await outcome('key create billing --write');
      expect([code, stdout]).toEqual([0, `config/tenants.yaml: key ${id} of billing added, without an end\n`]);
      made.push(KEY.exec(stderr)?.[0] ?? '');
    }
    const lines = ['', '-b', '-c'].map(
      (more, index) => `      - { id: ${MONTH}${more}, sha256: ${sha256(made[index] ?? '')} }\n`,
    );
    expect(await file()).toBe(TENANTS.replace('keys: []\n', `keys:\n${lines.join('')}`));
    const again = await outcome(`key create billing --write --id ${MONTH}`);
    expect([again.code, again.stdout]).toEqual([1, '']);
    expect(again.stderr).toBe(
      `patchgate key: config/tenants.yaml: the tenant "billing" has a key "${MONTH}" already\n`,
    );
  });

  test('writes the key to a file that only its owner can read, and never over another one', async () => {
    const path = join(files.path, 'billing.key');
    const { code, stdout, stderr } = await outcome('key create billing --write --key-file billing.key --json');
    expect([code, stderr]).toEqual([0, '']);
    const key = (await readFile(path, 'utf8')).trim();
    expect(key).toMatch(KEY);
    expect(JSON.parse(stdout)).toEqual({
      ...{ tenant: 'billing', id: MONTH, sha256: sha256(key), expires: null },
      ...{ file: 'config/tenants.yaml', keyFile: 'billing.key' },
    });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const before = await file();
    const again = await outcome('key create billing --write --key-file billing.key');
    expect([again.code, again.stderr]).toEqual([
      1,
      'patchgate key: billing.key cannot be written (EEXIST): name a file that does not exist yet\n',
    ]);
    expect([await file(), (await readFile(path, 'utf8')).trim()]).toEqual([before, key]);
    const refused = await outcome('key create other --write --key-file other.key');
    expect([refused.code, refused.stderr]).toEqual([
      1,
      'patchgate key: config/tenants.yaml: there is no tenant "other": patchgate tenant add other --write adds it\n',
    ]);
    await expect(stat(join(files.path, 'other.key'))).rejects.toThrow('ENOENT');
  });

  test('for scripts is one line of JSON', async () => {
    const { stdout, stderr } = await outcome('key create billing --json --id mine --expires 1h');
    const { key, expires, ...rest } = JSON.parse(stdout) as { key: string; expires: string };
    expect([rest, stderr]).toEqual([{ tenant: 'billing', id: 'mine', sha256: sha256(key), file: null }, '']);
    expect(Date.parse(expires)).toBeGreaterThan(Date.now());
  });
});

describe('tenant add', () => {
  test('prints a tenant, or adds it, with nothing else changed', async () => {
    const line = 'tenant add sync --rate 30';
    const { code, stdout } = await outcome(line);
    expect([code, stdout]).toEqual([0, 'tenants:\n  sync:\n    quota:\n      rate: 30\n']);
    expect(await file()).toBe(TENANTS);
    const written = await outcome(`${line} --write`);
    expect(written).toEqual({
      code: 0,
      stdout: 'config/tenants.yaml: tenant sync added\n',
      stderr: 'it has no key yet: patchgate key create sync --write\n',
    });
    expect(await file()).toBe(`${TENANTS}  sync:\n    quota: { rate: 30 }\n`);
  });

  test('that is not valid writes nothing', async () => {
    const again = await outcome('tenant add billing --write');
    expect([again.code, again.stderr]).toEqual([
      1,
      'patchgate tenant: config/tenants.yaml: there is a tenant "billing" already\n',
    ]);
    const account = await outcome('tenant add sync --account other --write');
    expect(account.code).toBe(1);
    expect(account.stderr).toContain('tenants.sync.account: there is no such account; known are main');
    expect(await file()).toBe(TENANTS);
  });
});

describe('a mistake is one line and exit 2', () => {
  test.each([
    ['tenant add No', 'patchgate tenant: a tenant name must have'],
    ['tenant add x --rate much', 'patchgate tenant: --rate must be a number above 0'],
    ['tenant add x --allow /api', 'patchgate tenant: --allow: must be a method and a path'],
    ['key create billing --id No', 'patchgate key: --id must have'],
    ['key create billing --expires 0d', 'patchgate key: --expires must be a duration'],
    ['key list --unused 30d', 'patchgate key: --unused needs --admin'],
    ['key list --unused long --admin http://127.0.0.1:1', 'patchgate key: --unused must be a duration'],
  ])('%s', async (line, message) => {
    const { code, stdout, stderr } = await outcome(line);
    expect([code, stdout, stderr.trim().split('\n').length]).toEqual([2, '', 1]);
    expect(stderr).toContain(message);
  });
});

test('a running gateway takes over a key, tells its last use, and rejects it once it is revoked', async () => {
  const token = 'fake-admin-token-of-the-commands';
  await using gateway = await startGateway({
    listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0, token } },
  });
  const { path: cwd, adminUrl } = gateway;
  const config = '--config gateway.yaml';
  const reloaded = (times: number) =>
    eventually(() => gateway.process.stdout().split('configuration reloaded').length > times, 'a reload');
  const { stdout } = await outcome(`key create billing --id new --write --json ${config}`, { cwd });
  const { key } = JSON.parse(stdout) as { key: string };
  await reloaded(1);
  expect(await gateway.status(key)).toBe(200);
  const list = (more: string, env: Record<string, string> = {}) => outcome(`key list ${more}`, { cwd, env });
  const used = await list(`--admin ${adminUrl}`, { ADMIN_TOKEN: token });
  expect([used.code, used.stderr]).toEqual([0, '']);
  expect(used.stdout.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
    ['TENANT', 'KEY', 'EXPIRES', 'LAST USED'],
    ['billing', 'now', 'never', expect.stringMatching(/:00\.000Z$/)],
    ['billing', 'old', '2020-01-01T00:00:00.000Z', 'not known'],
    ['billing', 'new', 'never', expect.stringMatching(/:00\.000Z$/)],
    ['reader', 'only', 'never', 'not known'],
    ['disabled', 'only', 'never', 'not known'],
    [''],
  ]);
  await writeFile(join(cwd, 'token'), `${token}\n`);
  const unused = await list(`--admin ${adminUrl} --token-file token --unused 1ms --json`);
  expect(JSON.parse(unused.stdout)).toContainEqual(
    expect.objectContaining({ tenant: 'reader', id: 'only', lastUsed: null }),
  );
  expect(JSON.parse((await list(`--admin ${adminUrl} --unused 30d --json`, { ADMIN_TOKEN: token })).stdout)).toEqual(
    [],
  );
  const refused = await list(`--admin ${adminUrl}`, { ADMIN_TOKEN: 'fake-wrong-token' });
  expect([refused.code, refused.stderr]).toEqual([
    1,
    `patchgate key: ${adminUrl}/status needs its token: set ADMIN_TOKEN, or use --token-file\n`,
  ]);
  expect((await list(config)).stdout).toMatch(/^TENANT +KEY +EXPIRES\nbilling +now +never\n/);
  const preview = await outcome(`key revoke billing new ${config}`, { cwd });
  expect([preview.code, preview.stdout.includes('id: now'), preview.stdout.includes('id: new')]).toEqual([
    0,
    true,
    false,
  ]);
  expect(await gateway.status(key)).toBe(200);
  expect((await outcome(`key revoke billing new --write ${config}`, { cwd })).stdout).toBe(
    'gateway.yaml: key new of billing removed; running gateways reject it once they have reloaded\n',
  );
  await reloaded(2);
  expect(await gateway.status(key)).toBe(401);
  expect(await gateway.status(BILLING_KEY)).toBe(200);
  const again = await outcome(`key revoke billing new --write ${config}`, { cwd });
  expect([again.code, again.stderr]).toEqual([
    1,
    'patchgate key: gateway.yaml: the tenant "billing" has no key "new"; it has now, old\n',
  ]);
});
