import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, READER_KEY, sha256 } from '../support/gateway.ts';
import { type Chart, chart, type Manifest, podsOf } from '../support/helm.ts';
import { gatewayPod } from '../support/helm-release.ts';
import { mountsOf, variablesOf, writeConfigMap } from '../support/kubelet.ts';
import { type Folder, folder, patchgate } from '../support/process.ts';
import { freePort, until } from '../support/redis.ts';

let built: Chart;
beforeAll(async () => {
  built = await chart();
});
afterAll(() => built[Symbol.asyncDispose]());

const at = (path: string, port: number, headers: Record<string, string> = {}) =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers });
const asTenant = (key: string) => ({ Authorization: `Bearer ${key}` });

/** Writes the mounts of the gateway pod below a folder, as the kubelet does. */
async function mount(home: Folder, manifests: readonly Manifest[]): Promise<void> {
  const { spec, container } = gatewayPod(manifests);
  for (const { path, files } of mountsOf(spec, container, manifests, {})) {
    await mkdir(below(home, path), { recursive: true });
    await writeConfigMap(below(home, path), Object.fromEntries(files));
  }
}

/** Secrets have a path that the configuration names, so they are rendered for this folder; the configuration is put into it. */
const below = (home: Folder, path: string) => (path.startsWith(home.path) ? path : join(home.path, path));

test('a gateway started from what the chart mounts serves a tenant, and takes a change over as it arrives', async () => {
  await using home = await folder({});
  await using simulator = Object.assign(await createSimulator(), { [Symbol.asyncDispose]: () => simulator.close() });
  const [trafficPort, adminPort] = [await freePort(), await freePort()];
  const upstream = { origin: simulator.url, timeout: '2s' };
  const values = (tenants: object) => ({
    listen: { host: '127.0.0.1', trafficPort, adminPort },
    secrets: { mountPath: join(home.path, 'run/secrets') },
    config: {
      accounts: {
        main: { credentials: [{ id: 'primary', apiKey: `\${file:${home.path}/run/secrets/patchworks-api-key}` }] },
      },
      upstreams: { core: upstream, start: upstream },
      drain: { delay: '0ms' },
    },
    tenants,
  });
  const release = await built.manifests('minimal', values({}));
  await mount(home, release);
  const { container } = gatewayPod(release);
  await using gateway = patchgate(
    (container.args ?? []).map((each) => each.replace(/^\/etc/, `${home.path}/etc`)),
    {
      env: variablesOf(container, release, {}),
      cwd: home.path,
    },
  );
  await gateway.listening();

  for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe])
    expect((await at(probe?.httpGet?.path ?? '', adminPort)).status).toBe(200);
  expect((await at('/metrics', adminPort)).status).toBe(401);
  expect((await at('/metrics', adminPort, asTenant('fake-admin-token'))).status).toBe(200);
  expect((await at('/api/v1/flows', trafficPort, asTenant(BILLING_KEY))).status).toBe(200);
  expect((await at('/api/v1/flows', trafficPort, asTenant(READER_KEY))).status).toBe(401);

  const reading = { reader: { keys: [{ id: 'now', sha256: sha256(READER_KEY) }] }, billing: { disabled: true } };
  const next = await built.manifests('minimal', values(reading));
  expect(gatewayPod(next)).toEqual({ ...gatewayPod(release), owner: gatewayPod(next).owner });
  await mount(home, next);
  gateway.child.kill('SIGHUP');
  await until(
    'the new tenant is let in',
    async () => (await at('/api/v1/flows', trafficPort, asTenant(READER_KEY))).status === 200,
  );
  expect((await at('/api/v1/flows', trafficPort, asTenant(BILLING_KEY))).status).toBe(401);

  gateway.child.kill('SIGTERM');
  expect(await gateway.exited).toEqual({ code: 0, signal: null });
});

test('Valkey starts as the chart tells it to: with the password of the Secret, and evicting nothing', async () => {
  await using home = await folder({});
  const password = 'fake "redis" pass\\word $HOME `id`';
  const secrets = join(home.path, 'secrets');
  const manifests = await built.manifests('valkey', {
    secrets: { mountPath: secrets, values: { 'redis-password': password } },
    config: { accounts: { main: { credentials: [{ id: 'a', apiKey: 'fake-key-in-the-open' }] } } },
  });
  const pod = podsOf(manifests).find(({ owner }) => owner.kind === 'StatefulSet');
  const container = pod?.containers[0];
  if (pod === undefined || container === undefined) throw new Error('there is no Valkey');
  const secret = mountsOf(pod.spec, container, manifests, {}).find(({ path }) => path === secrets);
  expect([...(secret?.files ?? [])]).toEqual([['redis-password', password]]);
  await mkdir(secrets);
  await writeConfigMap(secrets, Object.fromEntries(secret?.files ?? []));

  const port = await freePort();
  const bin = await redisAsValkey(home);
  const script = (command: readonly string[] = []) =>
    command.map((part) =>
      part
        .replace(/port 6379/, `port ${port}`)
        .replace(/dir \/data/, `dir ${home.path}`)
        .replace('valkey-cli', `valkey-cli -p ${port}`),
    );
  const [program = '', ...args] = script(container.command);
  await using _ = ending(
    spawn(program, args, { env: { ...process.env, PATH: `${bin}:${process.env['PATH']}` }, stdio: 'ignore' }),
  );
  await using client = closing(new Redis({ port, password, retryStrategy: () => 50, maxRetriesPerRequest: 0 }));
  await until('Valkey answers', () =>
    client.ping().then(
      () => true,
      () => false,
    ),
  );
  expect(await client.config('GET', 'maxmemory*')).toEqual(
    expect.arrayContaining(['maxmemory-policy', 'noeviction', 'maxmemory', String(256 * 2 ** 20)]),
  );
  expect(await client.config('GET', 'appendonly')).toEqual(['appendonly', 'yes']);
  await using stranger = closing(new Redis({ port, maxRetriesPerRequest: null }));
  await expect(stranger.get('a')).rejects.toThrow(/NOAUTH/);

  const [probe = '', ...probeArgs] = script(container.livenessProbe?.exec?.command);
  const alive = await new Promise((resolve) => {
    spawn(probe, probeArgs, { env: { ...process.env, PATH: `${bin}:${process.env['PATH']}` }, stdio: 'ignore' }).once(
      'exit',
      resolve,
    );
  });
  expect(alive).toBe(0);
  // The process is the server itself, so that a signal ends it. Its arguments contain no secret.
  const pid = Number(/process_id:(\d+)/.exec(await client.info('server'))?.[1]);
  expect(await readFile(`/proc/${pid}/cmdline`, 'utf8')).not.toContain('fake');
});

/** Redis reads the same configuration, and is what the tests have. */
async function redisAsValkey(home: Folder): Promise<string> {
  const bin = join(home.path, 'bin');
  await mkdir(bin);
  for (const name of ['server', 'cli']) {
    await writeFile(join(bin, `valkey-${name}`), `#!/bin/sh\nexec redis-${name} "$@"\n`, { mode: 0o755 });
  }
  return bin;
}

const ending = (child: ChildProcess) => ({
  async [Symbol.asyncDispose]() {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exited;
  },
});

const closing = (client: Redis) =>
  Object.assign(
    client.on('error', () => {}),
    { [Symbol.asyncDispose]: async () => client.disconnect() },
  );
