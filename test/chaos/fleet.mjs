// Three gateways as they run in production, a Redis, and the simulator in the place of Patchworks. Each gateway has wires of its own
// to both. The one way in which all runs of this folder start them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { configuration } from './configuration.mjs';
import { startGateway } from './gateway.mjs';
import { NAME, startRedisSet } from './redis-sets.mjs';
import { freePort, scratch } from './rig.mjs';
import { translator } from './translate.mjs';
import { wire } from './wire.mjs';

// The built product: by a path that the type checker does not follow.
const built = fileURLToPath(new URL('../../dist/simulator/simulator.js', import.meta.url));
const { createSimulator } = await import(built);

/** @typedef {import('./types.ts').Ways} Ways */
/** @typedef {import('./types.ts').Fleet} Fleet */

export const ACCOUNT_KEYS = { plenty: 'fake-chaos-account-plenty', tight: 'fake-chaos-account-tight' };

/**
 * @param {object} options
 * @param {import('./types.ts').State} options.state
 * @param {string} options.redisTimeout
 * @param {number} [options.gateways]
 * @param {import('./types.ts').Setup} [options.setup]
 * @param {import('../../src/simulator/options.ts').SimulatorOptions} [options.simulator]
 * @returns {Promise<Fleet>}
 */
export async function startFleet({ state, redisTimeout, gateways: count = 3, setup = {}, simulator: options }) {
  /** @type {(() => unknown)[]} */
  const closing = [];
  const close = async () => {
    for (const each of closing.splice(0).reverse()) await each();
  };
  try {
    const simulator = await createSimulator({
      accounts: {
        plenty: { apiKeys: { plenty: ACCOUNT_KEYS.plenty }, limit: 1_000_000 },
        tight: { apiKeys: { tight: ACCOUNT_KEYS.tight } },
      },
      switches: { echo: true, answerLatency: { kind: 'exponential', minMs: 1, meanMs: 10, maxMs: 200 } },
      ...options,
    });
    closing.push(() => simulator.close());
    const front = await setup.front?.(simulator.port);
    closing.push(() => front?.close());
    const redis = await startRedisSet(state, setup.redis, setup.redisEnv?.());
    closing.push(async () => {
      for (const { resume, kill } of [...redis.sentinels, ...redis.nodes]) {
        resume();
        await kill();
      }
    });
    const gateways = [];
    for (let index = 0; index < count; index++) {
      const { ways, addresses } = await wireUp(redis);
      closing.push(() => ways.close());
      const toUpstream = await wire(front?.port ?? simulator.port);
      closing.push(() => toUpstream.close());
      const port = await freePort();
      const config = configuration({ port, upstreamPort: toUpstream.port, redis: addresses, redisTimeout });
      setup.configure?.(config, index);
      const file = join(scratch, `gateway-${port}.json`);
      writeFileSync(file, JSON.stringify(config));
      // One after the other: the first waits for others that may be there.
      const gateway = await startGateway({ index, port, file, toRedis: ways, toUpstream, setup });
      closing.push(() => gateway.kill());
      gateways.push(gateway);
    }
    return { redis, simulator, gateways, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @param {import('./types.ts').RedisSet} redis @returns {Promise<{ ways: Ways, addresses: object }>} */
async function wireUp({ state, nodes, sentinels }) {
  /** What the gateway is told in place of the real ports. @type {Map<number, number>} */
  const ports = new Map();
  /** @type {import('./types.ts').Wire[]} */
  const wires = [];
  /** @type {{ close(): void }[]} */
  const translators = [];
  for (const { port } of [...sentinels, ...nodes]) {
    let to = port;
    if (state !== 'alone') {
      const between = await translator(port, ports);
      translators.push(between);
      to = between.port;
    }
    const link = await wire(to);
    wires.push(link);
    ports.set(port, link.port);
  }
  const at = (/** @type {readonly { port: number }[]} */ all) => all.map(({ port }) => `127.0.0.1:${ports.get(port)}`);
  const addresses = {
    alone: { url: `redis://${at(nodes)[0]}` },
    sentinel: { sentinels: at(sentinels), name: NAME },
    cluster: { cluster: at(nodes) },
  }[state];
  /** @type {Ways} */
  const ways = {
    set: (rule, where) => wires.forEach((each) => void each.set(rule, where)),
    cut: (how) => wires.forEach((each) => void each.cut(how)),
    refuse: () => wires.forEach((each) => void each.refuse()),
    heal: async () => void (await Promise.all(wires.map((each) => each.heal()))),
    async close() {
      for (const each of wires) await each.close();
      for (const each of translators) each.close();
    },
  };
  return { ways, addresses };
}
