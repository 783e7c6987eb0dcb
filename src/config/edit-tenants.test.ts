import { writeFileSync } from 'node:fs';
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { editTenants } from './edit-tenants.ts';
import { addKey, addTenant } from './tenants-document.ts';

const GATEWAY = 'accounts: { main: { credentials: [{ id: p, apiKey: "${KEY:-fake}" }] } }\n';
const TENANTS = '# Ours.\ntenants:\n  billing: {} # the first\n';
const KEY = { id: 'new', sha256: 'ab'.repeat(32) };

let folder: string;
const at = (name: string) => join(folder, name);
const text = (name = 'tenants.yaml') => readFile(at(name), 'utf8');
const edit = (change = (before: string) => addKey(before, 'billing', KEY)) =>
  editTenants({ path: at('gateway.yaml'), env: {} }, change);
const reasonOf = async (edited: ReturnType<typeof edit>) => {
  const result = await edited;
  return result.ok ? 'written' : result.reason;
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'patchgate-edit-'));
  await writeFile(at('gateway.yaml'), GATEWAY);
  await writeFile(at('tenants.yaml'), TENANTS);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test('the file is replaced with its mode, through symbolic links, and nothing is left beside it', async () => {
  await mkdir(at('kept'));
  await writeFile(at('kept/real.yaml'), TENANTS);
  await chmod(at('kept/real.yaml'), 0o640);
  await rm(at('tenants.yaml'));
  await symlink('kept/real.yaml', at('tenants.yaml'));
  const before = await stat(at('kept/real.yaml'));
  expect(await edit()).toEqual({ ok: true, file: at('tenants.yaml') });
  expect(await text()).toContain(`    keys:\n      - { id: new, sha256: ${KEY.sha256} }\n`);
  expect((await lstat(at('tenants.yaml'))).isSymbolicLink()).toBe(true);
  const after = await stat(at('kept/real.yaml'));
  expect(after.mode & 0o777).toBe(0o640);
  // By rename: a reader sees the old file or the new one.
  expect(after.ino).not.toBe(before.ino);
  expect([await readdir(folder), await readdir(at('kept'))]).toEqual([
    ['gateway.yaml', 'kept', 'tenants.yaml'],
    ['real.yaml'],
  ]);
});

test('tenants in the file of the gateway are edited there, and a file that is not there yet is created', async () => {
  await rm(at('tenants.yaml'));
  expect(await edit((before) => addTenant(before, { name: 'sync' }))).toMatchObject({ ok: true });
  expect(await text()).toBe('tenants:\n  sync: {}\n');
  await writeFile(at('gateway.yaml'), `${GATEWAY}tenants: { billing: {} }\n`);
  await edit();
  expect(await text('gateway.yaml')).toContain(`${GATEWAY}tenants: `);
  expect(await text('gateway.yaml')).toContain(KEY.sha256);
});

test('nothing is written if the whole configuration would not be valid', async () => {
  const broken = (before: string) => addKey(before, 'billing', { ...KEY, sha256: 'short' });
  expect(await reasonOf(edit(broken))).toMatch(/tenants\.billing\.keys\[0\]\.sha256: must be 64 .*is as it was$/s);
  await writeFile(at('gateway.yaml'), `${GATEWAY}limits: { bdy: 1MiB }\n`);
  expect(await reasonOf(edit())).toContain('did you mean "body"?');
  await writeFile(at('gateway.yaml'), GATEWAY.replace(':-fake', ''));
  expect(await reasonOf(edit())).toContain('the environment variable KEY is not set');
  await rm(at('gateway.yaml'));
  expect(await reasonOf(edit())).toContain('gateway.yaml: cannot be read: no such file');
  expect([await text(), await readdir(folder)]).toEqual([TENANTS, ['tenants.yaml']]);
});

test('a change by another program meanwhile is not overwritten', async () => {
  const theirs = `${TENANTS}  sync: {}\n`;
  const reason = await reasonOf(
    edit((before) => {
      writeFileSync(at('tenants.yaml'), theirs);
      return addKey(before, 'billing', KEY);
    }),
  );
  expect(reason).toMatch(/tenants\.yaml was changed by another program meanwhile, .*try again$/);
  expect(await text()).toBe(theirs);
  expect(await edit()).toMatchObject({ ok: true });
});

test('a second edit at the same time is refused, and one that was broken off names its lock', async () => {
  const results = await Promise.all(
    ['a', 'b', 'c', 'd'].map((id, index) =>
      edit((before) => addKey(before, 'billing', { id, sha256: String(index).repeat(64) })),
    ),
  );
  const written = results.filter(({ ok }) => ok).length;
  expect(written).toBeGreaterThan(0);
  expect((await text()).match(/sha256/g)).toHaveLength(written);
  await writeFile(at('tenants.yaml.lock'), '');
  expect(await reasonOf(edit())).toMatch(/if none is running, one was broken off: remove .*tenants\.yaml\.lock$/);
  expect(await readdir(folder)).toContain('tenants.yaml.lock');
});

test('a file that cannot be written is one clear sentence', async () => {
  await rm(at('tenants.yaml'));
  // The kernel lets no user create a file here, as in a mounted ConfigMap.
  await symlink('/sys/kernel/uevent_seqnum', at('tenants.yaml'));
  expect(await reasonOf(edit())).toMatch(
    /tenants\.yaml cannot be written here \(permission denied\): a mounted ConfigMap or Secret is read-only\. Run the command where the file is kept, or without --write$/,
  );
});
