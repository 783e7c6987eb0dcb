import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import type { Simulator } from '../../src/simulator/control.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { eventually } from './gateway.ts';
import { REPOSITORY } from './image.ts';
import { type Folder, folder, patchgate, type Spawned } from './process.ts';
import { freePort, type RedisServer, redisServer, until } from './redis.ts';

const run = promisify(execFile);
export const DEPLOY = join(REPOSITORY, 'deploy');

export interface Service {
  readonly secrets?: readonly { readonly source: string }[];
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

/**
 * compose.yaml as Compose reads it: validated, anchors and variables resolved, paths made absolute. Debian's Compose is 1.29, and
 * does not know `name` yet.
 */
export async function composed(env: Record<string, string> = {}, profiles: readonly string[] = []): Promise<Composed> {
  await using files = await folder({
    'compose.yaml': (await readFile(join(DEPLOY, 'compose.yaml'), 'utf8')).replace(/^name: .*$/m, ''),
  });
  const args = ['-f', join(files.path, 'compose.yaml'), '--project-directory', DEPLOY];
  const wanted = profiles.flatMap((name) => ['--profile', name]);
  const { stdout } = await run('docker-compose', [...args, ...wanted, 'config'], { env: { ...process.env, ...env } });
  return parse(stdout) as Composed;
}

export const committed = (path: string): Promise<string> => readFile(join(DEPLOY, 'compose', path), 'utf8');

export interface Member {
  readonly process: Spawned;
  readonly adminUrl: string;
}

/** The services of compose.yaml without a container engine: the same programs and files, with local ports in place of host names. */
export interface Topology {
  readonly simulator: Simulator;
  readonly gateways: readonly [Member, Member];
  /** Asks through the balancer, on a connection of its own. */
  ask(path: string, more?: Asked): Promise<number>;
  /** The same, but returns the body. */
  read(path: string, more?: Asked): Promise<string>;
  /** Status of the balancer's own health check. */
  balancerHealth(): Promise<number>;
  balancerLog(): string;
  readonly redis: RedisServer;
  [Symbol.asyncDispose](): Promise<void>;
}

interface Asked {
  readonly headers?: Record<string, string>;
  /** Address of this machine that the connection comes from. */
  readonly from?: string;
}

export const DEMO_KEY = 'pgk_demo_fake-key-for-compose';

export async function topology(drain = '2s'): Promise<Topology> {
  const opened: (() => Promise<unknown> | unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const each of opened.splice(0).reverse()) await each();
  };
  try {
    const simulator = await createSimulator();
    opened.push(() => simulator.close());
    const files = await folder({ 'tenants.yaml': await committed('config/tenants.yaml') });
    opened.push(() => files[Symbol.asyncDispose]());
    const redis = await valkey();
    opened.push(() => redis[Symbol.asyncDispose]());
    const gateways = [
      await member(1, files, redis, simulator, drain),
      await member(2, files, redis, simulator, drain),
    ] as const;
    opened.push(() => Promise.all(gateways.map(({ process }) => process[Symbol.asyncDispose]())));
    // As `depends_on` of the balancer has it.
    const isHealthy = async ({ admin }: Served) => (await fetch(`http://127.0.0.1:${admin}/readyz`)).status === 200;
    await eventually(async () => (await Promise.all(gateways.map(isHealthy))).every(Boolean), 'both are healthy');
    const balancer = await balancerOf(files, gateways);
    opened.push(() => balancer.child.kill('SIGKILL'));
    return {
      ...{ simulator, redis, gateways, balancerLog: balancer.log },
      ask: (path, more = {}) => ask(balancer.ports.traffic, path, more),
      read: async (path, more = {}) => (await answerTo(balancer.ports.traffic, path, more)).text,
      balancerHealth: () => ask(balancer.ports.health, '/healthz', {}),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** With the options of valkey.conf, but for its folder. */
async function valkey(): Promise<RedisServer> {
  const password = (await committed('secrets/redis-password')).trim();
  const options = (await committed('valkey.conf')).split('\n').filter((line) => !/^(#|dir |$)/.test(line));
  return redisServer({ password, args: [...options.flatMap(optionOf), '--requirepass', password] });
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
  const text = (await committed('config/gateway.yaml'))
    .replaceAll('/run/secrets/', join(DEPLOY, 'compose/secrets/'))
    .replace('redis://valkey:6379', redis.url)
    .replace('admin:\n    host: 0.0.0.0', 'traffic: { host: 127.0.0.1, port: 0 }\n  admin:\n    port: 0');
  await writeFile(join(files.path, `gateway-${number}.yaml`), `${text}\ndrain: { delay: ${drain} }\n`);
  const env = { CORE_ORIGIN: simulator.url, START_ORIGIN: simulator.url, FRONT_SUBNET: '127.0.0.1/32' };
  const process = patchgate(['serve', '--config', `gateway-${number}.yaml`], { cwd: files.path, env });
  const { traffic, admin } = await process.listening();
  return { process, traffic, admin, adminUrl: `http://127.0.0.1:${admin}` };
}

interface Balancer {
  readonly child: ChildProcess;
  readonly ports: { readonly traffic: number; readonly health: number };
  readonly log: () => string;
}

const MOST_TRIES = 3;

/** Another process may have taken the free port meanwhile; then it tries another port. */
async function balancerOf(files: Folder, gateways: readonly Served[], tries = MOST_TRIES): Promise<Balancer> {
  const ports = { traffic: await freePort(), health: await freePort() };
  let text = (await committed('haproxy.cfg'))
    .replace('bind :8080', `bind 127.0.0.1:${ports.traffic}`)
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
  const isWell = () =>
    ask(ports.health, '/healthz', {}).then(
      (status) => status === 200,
      () => false,
    );
  await until('the balancer is well, or has ended', async () => child.exitCode !== null || isWell());
  if (child.exitCode === null) return { child, ports, log: () => said };
  if (tries === 1 || !said.includes('Address already in use')) throw new Error(said);
  return balancerOf(files, gateways, tries - 1);
}

const ask = async (port: number, path: string, more: Asked): Promise<number> =>
  (await answerTo(port, path, more)).status;

function answerTo(
  port: number,
  path: string,
  { headers = {}, from }: Asked,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const options = {
      ...{ host: '127.0.0.1', port, path, headers: { Authorization: `Bearer ${DEMO_KEY}`, ...headers } },
      agent: new Agent(),
      ...(from !== undefined && { localAddress: from }),
    };
    const request = get(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.once('end', () => resolve({ text, status: response.statusCode ?? 0 }));
      response.once('error', reject);
    });
    request.once('error', reject);
  });
}
