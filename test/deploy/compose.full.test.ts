import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadSettings } from '../../src/config/load.ts';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { committed, composed, DEMO_KEY, DEPLOY, type Topology, topology } from '../support/compose.ts';
import { sha256 } from '../support/gateway.ts';
import { readDockerfile } from '../support/image.ts';
import { until } from '../support/redis.ts';

const run = promisify(execFile);
const OURS = ['gateway-1', 'gateway-2', 'simulator'];

/** Settings of the gateways: those of the file where no variable is set. */
const settingsOf = async () => {
  const { services } = await composed();
  const loaded = await loadSettings({
    path: join(DEPLOY, 'compose/config/gateway.yaml'),
    env: services['gateway-1']?.environment ?? {},
    readFile: (path) => readFile(path.replace('/run/secrets/', join(DEPLOY, 'compose/secrets/')), 'utf8'),
  });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded;
};

describe('compose.yaml', () => {
  test('is valid, and runs the simulator only where its profile is wanted', async () => {
    const usual = ['balancer', 'gateway-1', 'gateway-2', 'grafana', 'prometheus', 'valkey'];
    // Compose 1.29 prints services of other profiles, too; which are started is decided by the profile.
    const { services } = await composed({}, ['simulator']);
    expect(Object.keys(services).sort()).toEqual([...usual.slice(0, 5), 'simulator', 'valkey']);
    const raw = parse(await readFile(join(DEPLOY, 'compose.yaml'), 'utf8'), { merge: true }) as {
      services: Record<string, { profiles?: string[] }>;
    };
    const withProfile = Object.entries(raw.services).filter(([, { profiles }]) => profiles !== undefined);
    expect(withProfile.map(([name, { profiles }]) => [name, profiles])).toEqual([['simulator', ['simulator']]]);
  });

  test('gives no container more than it needs, and asks each whether it is well', async () => {
    const { services } = await composed({}, ['simulator']);
    for (const [name, service] of Object.entries(services)) {
      expect([name, service.read_only, service.cap_drop, service.security_opt]).toEqual([
        name,
        true,
        ['ALL'],
        ['no-new-privileges:true'],
      ]);
      expect(service.healthcheck?.test.length, name).toBeGreaterThan(0);
      if (!OURS.includes(name)) expect(service.image, name).toMatch(/:v?\d+\.\d+/);
    }
  });

  test('asks the gateways what the image itself asks', async () => {
    const { services } = await composed({}, ['simulator']);
    const own = JSON.parse(/HEALTHCHECK .* CMD (\[.*\])/.exec(await readDockerfile())?.[1] ?? '[]') as string[];
    for (const name of OURS) expect(services[name]?.healthcheck?.test).toEqual(['CMD', ...own]);
  });

  test('publishes on loopback, and neither a gateway nor Valkey', async () => {
    const { services, networks } = await composed({}, ['simulator']);
    const published = Object.entries(services).filter(([, { ports = [] }]) => ports.length > 0);
    expect(published.map(([name]) => name).sort()).toEqual(['balancer', 'grafana', 'prometheus']);
    for (const [, { ports = [] }] of published) for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    expect(networks['state']?.internal).toBe(true);
    expect(Object.keys(services['valkey']?.networks ?? {})).toEqual(['state']);
  });

  test('mounts nothing of ours that is not there', async () => {
    const { services, secrets } = await composed({}, ['simulator']);
    const mounted = Object.values(services).flatMap(({ volumes = [] }) =>
      volumes.map((each) => each.split(':')[0] ?? ''),
    );
    const sources = [...mounted, ...Object.values(secrets).map(({ file }) => file)];
    const paths = sources.filter((each) => each.startsWith(`${DEPLOY}/`));
    for (const path of paths) await stat(path);
    expect(paths.length).toBeGreaterThan(8);
  });

  test('lets a gateway drain before it is killed', async () => {
    const { services } = await composed();
    const { drain } = (await settingsOf()).settings;
    for (const name of ['gateway-1', 'gateway-2']) {
      const graceMs = Number(/^(\d+)s$/.exec(services[name]?.stop_grace_period ?? '')?.[1]) * 1000;
      expect(graceMs).toBeGreaterThanOrEqual(drain.delayMs + drain.timeoutMs + 5_000);
    }
  });
});

describe('the configuration of its gateways', () => {
  test('loads without a warning, and believes the balancer about who calls', async () => {
    const { settings, warnings } = await settingsOf();
    expect(warnings).toEqual([]);
    const { networks, services } = await composed();
    expect(settings.listen.trustedProxies).toEqual([services['gateway-1']?.environment?.['FRONT_SUBNET']]);
    expect(networks['front']).toEqual({ ipam: { config: [{ subnet: settings.listen.trustedProxies[0] }] } });
    expect(settings.listen.admin.token?.reveal()).toBe('fake-admin-token');
    const tokens = settings.listen.admin.tokens.map(({ id, token, role }) => [id, token.reveal(), role]);
    expect(tokens).toEqual([['prometheus', 'fake-metrics-token', 'metrics']]);
    expect(services['prometheus']?.secrets).toEqual([{ source: 'metrics-token' }]);
  });

  test('knows Patchworks only if that is configured: as committed, its keys open the simulator and nothing else', async () => {
    const { settings } = await settingsOf();
    expect([...settings.upstreams.values()].map(({ origin }) => origin)).toEqual(
      Array(2).fill('http://simulator:4010'),
    );
    expect(settings.secrets.map((each) => each.reveal())).toContain(FAKE_PRIMARY_KEY);
    expect([...settings.tenants.values()].flatMap(({ keys }) => keys.map((key) => key.sha256))).toEqual([
      sha256(DEMO_KEY),
    ]);
    expect(await readFile(join(DEPLOY, 'compose.yaml'), 'utf8')).toContain(`Bearer ${DEMO_KEY}`);
    const secrets = ['patchworks-api-key', 'redis-password', 'admin-token', 'metrics-token', 'grafana-password'];
    for (const name of secrets) expect(await committed(`secrets/${name}`)).toMatch(/^fake-/);
  });

  test('is another one by the variables of example.env', async () => {
    const text = await committed('example.env');
    const env = Object.fromEntries([...text.matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]));
    const { services, secrets } = await composed(env);
    expect(services['gateway-1']).toMatchObject({
      environment: {
        CORE_ORIGIN: 'https://core.wearepatchworks.com',
        START_ORIGIN: 'https://start.wearepatchworks.com',
      },
      volumes: ['/etc/patchgate:/etc/patchgate:ro'],
    });
    expect(secrets['admin-token']?.file).toBe('/etc/patchgate-secrets/admin-token');
  });
});

test('its Prometheus configuration is valid, and names the replicas as the rules do', async () => {
  await run('promtool', ['check', 'config', '--syntax-only', join(DEPLOY, 'compose/prometheus.yaml')]);
  const { scrape_configs: jobs } = parse(await committed('prometheus.yaml')) as {
    scrape_configs: { job_name: string }[];
  };
  expect(jobs.map(({ job_name }) => job_name)).toEqual(['patchgate']);
});

describe('what it describes, run without an engine', () => {
  const statuses = (running: Topology, count: number) =>
    Promise.all(Array.from({ length: count }, () => running.ask('/api/v1/flows')));
  /** Each gateway has a share of the account: one that dies alone, or without one, would keep what it has reserved. */
  const warm = async ({ redis, ask }: Topology) => {
    await until('it serves', async () => (await ask('/api/v1/flow-runs')) === 200);
    await until('each has a share', async () => {
      const members = await redis.client().hget('patchgate:{main}:quota', 'members');
      const shares = Object.values(JSON.parse(members ?? '{}') as Record<string, { share: number }>);
      return shares.length === 2 && shares.every(({ share }) => share > 0);
    });
  };
  const accessLines = ({ gateways }: Topology) =>
    gateways.map(({ process }) =>
      process
        .stdout()
        .split('\n')
        .filter((line) => line.includes('"msg":"request"'))
        .map((line) => JSON.parse(line) as { client: string }),
    );

  test('spreads requests over both gateways, which share one Valkey that keeps its data', async () => {
    await using running = await topology();
    expect(running.balancerLog()).not.toMatch(/WARNING|ALERT/);
    await warm(running);
    for (let i = 0; i < 10; i++) expect(await running.ask('/api/v1/flows')).toBe(200);
    await until('both have served', async () => accessLines(running).every((lines) => lines.length > 0));
    const client = running.redis.client();
    expect(await client.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction']);
    expect(await client.config('GET', 'appendonly')).toEqual(['appendonly', 'yes']);
    expect((await client.keys('patchgate:{main}:*')).length).toBeGreaterThan(0);
  });

  test('gives the gateways the address of the caller, and no caller can forge it', async () => {
    await using running = await topology();
    const headers = { 'X-Forwarded-For': '10.1.2.3' };
    expect(await running.ask('/_gateway/whoami', { headers, from: '127.0.0.2' })).toBe(200);
    await until('it is in a log', async () => accessLines(running).flat().length > 0);
    expect(
      accessLines(running)
        .flat()
        .map(({ client }) => client),
    ).toEqual(['127.0.0.2']);
    expect(running.balancerLog()).toContain('127.0.0.2 GET /_gateway/whoami 200');
    // Nor by what: the balancer was called in plain.
    await warm(running);
    const text = await running.read('/api/v1/flows', { headers: { 'X-Forwarded-Proto': 'https' } });
    expect((JSON.parse(text) as { links: { first: string } }).links.first).toMatch(/^http:\/\//);
  });

  test('loses no request when a gateway drains; with none left the balancer is unwell itself', async () => {
    await using running = await topology('3s');
    await warm(running);
    const seen: number[] = [];
    let going = true;
    const caller = async () => {
      while (going) seen.push(await running.ask('/_gateway/whoami').catch(() => 0));
    };
    const callers = [caller(), caller(), caller(), caller()];
    const [first, second] = running.gateways;
    first.process.child.kill('SIGTERM');
    expect((await first.process.exited).code).toBe(0);
    const before = seen.length;
    await until('requests after that', async () => seen.length > before + 50);
    going = false;
    await Promise.all(callers);
    expect(seen.filter((status) => status !== 200)).toEqual([]);
    expect(running.balancerLog()).toMatch(/Server gateways\/gateway-1 is DOWN/);
    second.process.child.kill('SIGKILL');
    await until('the balancer reports that no gateway is left', async () => (await running.balancerHealth()) === 503);
    expect(new Set(await statuses(running, 3))).toEqual(new Set([503]));
  });

  test('goes on with the other one when a gateway is killed: nothing fails once a check has noticed', async () => {
    await using running = await topology();
    await warm(running);
    running.gateways[0].process.child.kill('SIGKILL');
    await until('a check has noticed', async () => running.balancerLog().includes('Server gateways/gateway-1 is DOWN'));
    expect(await statuses(running, 100)).toEqual(Array(100).fill(200));
  });
});
