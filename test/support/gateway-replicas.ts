import type { Simulator } from '../../src/simulator/control.ts';
import type { SimulatorOptions } from '../../src/simulator/options.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import {
  BILLING_KEY,
  type Config,
  configuration,
  loginAt,
  PRIMARY,
  READER_KEY,
  type Running,
  run,
  sha256,
} from './gateway.ts';
import { type RedisServer, until } from './redis.ts';

export interface GatewayReplicas {
  readonly simulator: Simulator;
  readonly all: readonly Running[];
  /** The replica that the n-th request goes to. */
  at(n: number): Running;
  /** Resolves when each replica has a share of the account that it may use alone: some two seconds after the last has come. */
  shared(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface GatewayReplicasOptions {
  readonly more?: Config;
  readonly simulator?: SimulatorOptions;
  /** The account has an unused login in place of a key, and full buckets. */
  readonly login?: boolean;
}

let fleets = 0;

/** Quotas without effect, for tests of other features. */
const PLENTY = { limit: 1_000_000, ceiling: 900_000, burst: 50_000 };
const ROOMY = { rate: 900_000, burst: 50_000, maxWait: '5s' };

/** Replicas that share a Redis and an upstream. */
export async function runReplicas(
  redis: RedisServer,
  count: number,
  { more = {}, simulator: options, login = false }: GatewayReplicasOptions = {},
): Promise<GatewayReplicas> {
  const simulator = await createSimulator({ ...options, switches: { limit: PLENTY.limit, ...options?.switches } });
  const prefix = `fleet${fleets++}`;
  const accountOf = (credential: Config): Config => ({ main: { quota: PLENTY, credentials: [credential] } });
  const text = JSON.stringify({
    ...configuration(simulator.url),
    accounts: accountOf(login ? loginAt(simulator.url) : PRIMARY),
    // These tests wait for a login, which is slow on a busy machine.
    ...(login && { upstreams: { core: { origin: simulator.url, timeout: '30s' } } }),
    redis: { url: redis.url, prefix, timeout: login ? '3s' : '1s' },
    tenants: {
      billing: { keys: [{ id: 'now', sha256: sha256(BILLING_KEY) }], quota: ROOMY },
      reader: { keys: [{ id: 'now', sha256: sha256(READER_KEY) }], quota: ROOMY },
    },
    ...more,
  });
  if (login) {
    const config = { ...(JSON.parse(text) as Config), accounts: accountOf(PRIMARY) };
    await using first = await run({ upstream: simulator, config: () => config });
    first.simulator.reset();
  }
  const all: Running[] = [];
  // In sequence, because the first replica waits for others.
  for (let i = 0; i < count; i++)
    all.push(await run({ upstream: simulator, cold: login, config: () => JSON.parse(text) as Config }));
  return {
    simulator,
    all,
    shared: () =>
      until('each replica has a share', async () => {
        const members = await redis.client().hget(`${prefix}:{main}:quota`, 'members');
        const shares = Object.values(JSON.parse(members ?? '{}') as Record<string, { share: number }>);
        return shares.length === count && shares.every(({ share }) => share > 0);
      }),
    at: (n) => all[n % all.length] as Running,
    async [Symbol.asyncDispose]() {
      await Promise.all(all.map((each) => each[Symbol.asyncDispose]()));
      await simulator.close();
    },
  };
}
