import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import type { Simulator } from '../../src/simulator/api.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { REPOSITORY } from './image.ts';
import { type Folder, folder, patchgate, type Spawned } from './process.ts';
import { freePort, type RedisServer, redisServer, until } from './redis.ts';

const run = promisify(execFile);
export const DEPLOY = join(REPOSITORY, 'deploy');

export interface Service {
  readonly image: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly networks?: Readonly<Record<string, unknown>>;
  readonly hostname?: string;
  readonly stop_grace_period?: string;
  readonly user?: string;
}

export interface Composed {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean; readonly ipam?: unknown } | null>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
}

/** compose.yaml as Compose reads it: validated, anchors and variables resolved, paths made absolute. */
export async function composed(env: Record<string, string> = {}, profiles: readonly string[] = []): Promise<Composed> {
  const args = ['-f', join(DEPLOY, 'compose.yaml'), ...profiles.flatMap((name) => ['--profile', name]), 'config'];
  const { stdout } = await run('docker-compose', args, { env: { ...process.env, ...env } });
  return parse(stdout) as Composed;
}

export const committed = (path: string): Promise<string> => readFile(join(DEPLOY, 'compose', path), 'utf8');

export interface Member {
  readonly process: Spawned;
  readonly adminUrl: string;
}

/** What compose.yaml describes, without an engine: the same programs and files, with ports of this machine in place of names. */
export interface Topology {
  readonly simulator: Simulator;
  readonly gateways: readonly [Member, Member];
  /** Asks through the balancer, on a connection of its own unless told otherwise. */
  ask(path: string, more?: { headers?: Record<string, string>; from?: string; agent?: Agent }): Promise<number>;
  /** What the balancer thinks of itself. */
  balancerHealth(): Promise<number>;
  balancerLog(): string;
  readonly redis: RedisServer;
  [Symbol.asyncDispose](): Promise<void>;
}

export const DEMO_KEY = 'pgk_demo_fake-key-for-compose';

export async function topology(drain = '2s'): Promise<Topology> {
  const simulator = await createSimulator();
  const password = (await committed('secrets/redis-password')).trim();
  const valkey = (await committed('valkey.conf')).split('\n').filter((line) => !/^(#|dir |$)/.test(line));
  const args = [...valkey.flatMap((line) => optionOf(line)), '--requirepass', password];
  const redis = await redisServer({ password, args });
  const files = await folder({ 'tenants.yaml': await committed('config/tenants.yaml') });
  const ports = { bind: await freePort(), health: await freePort() };
  const first = await member(1, files, redis, simulator, drain);
  const second = await member(2, files, redis, simulator, drain);
  const gateways = [first, second] as const;
  const balancer = await balancerOf(files, ports, gateways);
  return {
    simulator,
    redis,
    gateways,
    balancerLog: balancer.log,
    ask: (path, more = {}) => ask(ports.bind, path, more),
    balancerHealth: () => ask(ports.health, '/healthz', {}),
    async [Symbol.asyncDispose]() {
      balancer.child.kill('SIGKILL');
      await Promise.all(gateways.map(({ process }) => process[Symbol.asyncDispose]()));
      await redis[Symbol.asyncDispose]();
      await simulator.close();
      await files[Symbol.asyncDispose]();
    },
  };
}

/** `name value` of a configuration file as arguments of the program. */
function optionOf(line: string): string[] {
  const [name = '', ...value] = line.split(' ');
  return [`--${name}`, value.join(' ').replace(/^""$/, '')];
}

type Served = Member & { readonly traffic: number; readonly admin: number };

async function member(
  number: number,
  files: Folder,
  redis: RedisServer,
  simulator: Simulator,
  drain: string,
): Promise<Served> {
  const [traffic, admin] = [await freePort(), await freePort()];
  const text = (await committed('config/gateway.yaml'))
    .replaceAll('/run/secrets/', join(DEPLOY, 'compose/secrets/'))
    .replace('redis://valkey:6379', redis.url)
    .replace('admin: { host: 0.0.0.0', `traffic: { host: 127.0.0.1, port: ${traffic} }\n  admin: { port: ${admin}`);
  await writeFile(join(files.path, `gateway-${number}.yaml`), `${text}\ndrain: { delay: ${drain} }\n`);
  const env = { CORE_ORIGIN: simulator.url, START_ORIGIN: simulator.url, FRONT_SUBNET: '127.0.0.1/32' };
  const process = patchgate(['serve', '--config', `gateway-${number}.yaml`], { cwd: files.path, env });
  await process.waitFor(/"msg":"listening"/);
  return { process, traffic, admin, adminUrl: `http://127.0.0.1:${admin}` };
}

async function balancerOf(
  files: Folder,
  ports: { readonly bind: number; readonly health: number },
  gateways: readonly [Served, Served],
): Promise<{ readonly child: ChildProcess; readonly log: () => string }> {
  let text = (await committed('haproxy.cfg'))
    .replace('bind :8080', `bind 127.0.0.1:${ports.bind}`)
    .replace('127.0.0.1:8404', `127.0.0.1:${ports.health}`);
  // With names every server is checked on the same port; here each has another one.
  for (const [i, { traffic, admin }] of gateways.entries())
    text = text.replace(`gateway-${i + 1}:8080`, `127.0.0.1:${traffic} check port ${admin}`);
  const path = join(files.path, 'haproxy.cfg');
  await writeFile(path, text);
  const child = spawn('haproxy', ['-f', path, '-db'], { stdio: 'pipe' });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      said += chunk;
    });
  const health = () => ask(ports.health, '/healthz', {}).catch(() => 0);
  await until('the balancer is well', async () => (await health()) === 200).catch((error) => {
    child.kill('SIGKILL');
    throw new Error(said, { cause: error });
  });
  return { child, log: () => said };
}

function ask(
  port: number,
  path: string,
  { headers = {}, from, agent }: { headers?: Record<string, string>; from?: string; agent?: Agent },
): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = {
      ...{ host: '127.0.0.1', port, path, headers: { Authorization: `Bearer ${DEMO_KEY}`, ...headers } },
      agent: agent ?? new Agent(),
      ...(from !== undefined && { localAddress: from }),
    };
    const request = get(options, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode ?? 0));
      response.once('error', reject);
    });
    request.once('error', reject);
  });
}
