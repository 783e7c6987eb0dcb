import { execFile } from 'node:child_process';
import { appendFile, cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { folder } from '../support/process.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);
const page = await readFile(`${root}/README.md`, 'utf8');
const section = page.slice(page.indexOf('\n## Run it\n'), page.indexOf('\n### As an image\n'));
const blocks = (language: string) =>
  [...section.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))].map(([, text = '']) => text);

test('the configuration that the README shows is the file that it uses', async () => {
  const [, ...lines] = (await readFile(`${root}/config/try.yaml`, 'utf8')).split('\n');
  expect(blocks('yaml')).toEqual([lines.join('\n')]);
});

async function freePort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return String(port);
}

/** The files of git, so that nothing which is only here helps. Packages are those of this clone: a test needs no registry. */
async function cleanCopy(to: string): Promise<void> {
  const { stdout } = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root });
  for (const name of stdout.split('\0').filter(Boolean)) {
    await mkdir(dirname(`${to}/${name}`), { recursive: true });
    await cp(`${root}/${name}`, `${to}/${name}`);
  }
  await symlink(`${root}/node_modules`, `${to}/node_modules`);
}

test('the steps of the README lead from a clean copy to a first response of the simulator, and to keys in the shipped files', async () => {
  await using copy = await folder({});
  await cleanCopy(copy.path);
  const [simulator, traffic, admin] = await Promise.all([freePort(), freePort(), freePort()]);
  const moved = (text: string) =>
    text.replaceAll('4010', simulator).replaceAll('8080', traffic).replaceAll('9090', admin);
  const config = `${copy.path}/config/try.yaml`;
  await writeFile(config, moved(await readFile(config, 'utf8')));
  const [install = '', start = '', request = '', own = '', ...more] = blocks('sh').map(moved);
  expect(more).toEqual([]);
  // In place of Patchworks, and on free ports.
  const { listen, upstreams } = parse(await readFile(config, 'utf8'));
  await appendFile(`${copy.path}/config/gateway.yaml`, `\n${stringify({ listen, upstreams })}`);
  const until = (port: string, path: string) =>
    `curl -sfo /dev/null --retry 60 --retry-delay 1 --retry-all-errors http://127.0.0.1:${port}${path}\n`;
  const script = [
    "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n",
    install.replace('npm ci', 'true').replace('simulate &', `simulate --port ${simulator} >&2 &`),
    until(simulator, '/_simulator/stats'),
    start.replace('try.yaml &', 'try.yaml >&2 &'),
    until(admin, '/readyz'),
    request,
    'echo\nkill %2\nwait %2\n',
    own
      .replace('=…', '=fake-patchworks-key-primary')
      .replace('--write', '--write 2>made')
      .replace(/serve .*/, 'serve >&2 &'),
    until(admin, '/readyz'),
    `curl -s http://127.0.0.1:${traffic}/_gateway/whoami -H "X-API-Key: $(sed 's/.*shown only once: //' made)"\n`,
  ].join('');
  const env = { PATH: process.env['PATH'], HOME: copy.path };
  const { stdout } = await run('bash', ['-c', script], { cwd: copy.path, env, timeout: 240_000 });
  expect(stdout).toMatch(/^online: account main, credential primary: \S+ answered 200; limit 240 in 60 s, \d+ left$/m);
  const response = stdout.slice(stdout.indexOf('HTTP/1.1 200 OK'));
  // The names of the fields, since values differ each time.
  const names = (text: string) => [...text.matchAll(/^([\w-]+): /gm)].map(([, name = '']) => name);
  const [shown = ''] = blocks('http');
  expect(names(shown).length).toBeGreaterThan(8);
  expect(names(response).filter((name) => names(shown).includes(name))).toEqual(names(shown));
  expect(response).toContain('X-RateLimit-Limit: 20\r\n');
  expect(stdout).toMatch(/^config\/tenants.yaml: key \S+ of billing added, until /m);
  expect(stdout.match(/^online: .* answered 200; /gm)).toHaveLength(2);
  const { tenant, quota } = JSON.parse(stdout.slice(stdout.lastIndexOf('\n{')));
  expect([tenant, quota.requestsPerMinute]).toEqual(['billing', 60]);
}, 300_000);
