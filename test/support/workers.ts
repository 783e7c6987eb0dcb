import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { scrape } from './exposition.ts';
import { BILLING_KEY, type Config, configuration, READER_KEY, sha256 } from './gateway.ts';
import { type RedisServer, redisServer, until } from './redis.ts';
import { type Served, served } from './served.ts';

/** Quotas and guards that are in nobody's way. */
const PLENTY = { limit: 1_000_000, ceiling: 900_000, burst: 50_000 };
const ROOMY = { rate: 900_000, burst: 50_000, maxWait: '10s' };
export const ROOMY_TENANTS = {
  billing: { keys: [{ id: 'now', sha256: sha256(BILLING_KEY) }], quota: ROOMY },
  reader: { keys: [{ id: 'now', sha256: sha256(READER_KEY) }], quota: ROOMY },
};

export interface Team extends Served {
  readonly redis: RedisServer;
  /** Writes what is in gateway.yaml with something else in place of a part of it. */
  change(more: Config): Promise<void>;
  /** Process ids of the workers there are now. */
  pids(): number[];
  metric(name: string, labels?: Record<string, string>): Promise<number>;
  /** Lines of the log so far. */
  lines(): Record<string, unknown>[];
}

/** The built program with two workers, a real Redis and a simulator. Files are not watched: a test says when to load. */
export async function team(more: Config = {}): Promise<Team> {
  const redis = await redisServer();
  const config: Config = {
    accounts: { main: { quota: PLENTY, credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }] } },
    tenants: ROOMY_TENANTS,
    limits: { flood: 1_000_000, failedKeys: 1_000_000 },
    reload: { watch: false },
    redis: { url: redis.url, timeout: '2s' },
    workers: 2,
    ...more,
  };
  const running = await served(config, { simulator: { switches: { limit: PLENTY.limit } } });
  await until('it answers', async () => (await running.status(BILLING_KEY)) === 200);
  // One of them answers before the other is there and has its share.
  await until('both are counted', async () => {
    const metrics = await scrape(running.adminUrl);
    return metrics.sum('patchgate_workers') === 2 && metrics.sum('patchgate_quota_replicas') === 2;
  });
  return {
    ...running,
    redis,
    change: (changed) => running.write(JSON.stringify(configuration(running.simulator.url, { ...config, ...changed }))),
    pids: () => childrenOf(running.process.child.pid ?? 0),
    metric: async (name, labels = {}) => (await scrape(running.adminUrl)).sum(`patchgate_${name}`, labels) ?? 0,
    lines: () => running.process.stdout().split('\n').filter(isWhole).map(parsed),
    async [Symbol.asyncDispose]() {
      await running[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
    },
  };
}

export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

/** Gone, or dead and not waited for. */
export function isGone(pid: number): boolean {
  try {
    return /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

const isWhole = (line: string): boolean => line.endsWith('}');
const parsed = (line: string) => JSON.parse(line) as Record<string, unknown>;

export interface Asked {
  readonly status: number;
  readonly close: boolean;
  readonly text: string;
}

/** A caller with one connection that it keeps; connections are dealt out in turn, so that as many callers as workers reach all. */
export function caller(url: string, key = BILLING_KEY, name?: string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    /** Rejects with the error of the connection, which says whether it was in use before. */
    ask: (path: string, method = 'GET') =>
      new Promise<Asked>((resolve, reject) => {
        const headers = { 'X-API-Key': key, ...(name && { 'X-Request-Id': name }) };
        const sent = request(`${url}${path}`, { agent, method, headers }, (response) => {
          let text = '';
          response
            .setEncoding('utf8')
            .on('data', (chunk: string) => {
              text += chunk;
            })
            .on('end', () =>
              resolve({ status: response.statusCode ?? 0, close: response.headers.connection === 'close', text }),
            )
            .on('error', reject);
        });
        sent.on('error', (error) => reject(Object.assign(error, { reused: sent.reusedSocket })));
        sent.end();
      }),
    close: () => agent.destroy(),
  };
}
