// Three gateways as they run in production, a Redis, and the simulator in the place of Patchworks. Each gateway has wires of its own
// to both. The one way in which all runs of this folder start them.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
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

/** @typedef {import('./types.ts').Gateway} Gateway */

/**
 * @param {object} options
 * @param {import('./types.ts').State} options.state
 * @param {(ways: import('./types.ts').Addresses) => Record<string, unknown>} options.configuration of a gateway
 * @param {import('../../src/simulator/options.ts').SimulatorOptions} options.simulator
 * @param {number} [options.gateways]
 * @param {import('./types.ts').Setup} [options.setup]
 * @returns {Promise<Fleet>}
 */
export async function startFleet({ state, configuration, simulator: options, gateways: count = 3, setup = {} }) {
  /** @type {(() => unknown)[]} */
  const closing = [];
  const close = async () => {
    for (const each of closing.splice(0).reverse()) await each();
  };
  try {
    /** @type {import('../../src/simulator/control.ts').Simulator} */
    const simulator = await createSimulator(options);
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
    /** @type {Gateway[]} */
    const gateways = [];
    const add = async () => {
      const index = gateways.length;
      const { ways, addresses } = await wireUp(redis);
      closing.push(() => ways.close());
      const toUpstream = await wire(front?.port ?? simulator.port);
      closing.push(() => toUpstream.close());
      const port = await freePort();
      const config = configuration({ port, upstreamPort: toUpstream.port, redis: addresses });
      setup.configure?.(config, index);
      if (setup.stdoutIsFull) adminOn(config, await freePort());
      const file = join(scratch, `gateway-${port}.json`);
      writeFileSync(file, JSON.stringify(config));
      const gateway = await startGateway({ index, port, file, config, toRedis: ways, toUpstream, setup });
      closing.push(() => gateway.kill());
      gateways.push(gateway);
      return gateway;
    };
    // Gateways start in sequence, because the first waits for replicas that may be there already.
    for (let i = 0; i < count; i++) await add();
    return { redis, simulator, gateways, add, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Sets the admin port, which the log cannot report when nothing can be written to it. @param {Record<string, unknown>} config @param {number} port */
function adminOn(config, port) {
  const listen = /** @type {{ admin: { port: number } }} */ (config['listen']);
  listen.admin.port = port;
}

/** @param {import('./types.ts').RedisSet} redis @returns {Promise<{ ways: Ways, addresses: object }>} */
async function wireUp({ state, nodes, sentinels }) {
  /** The port that the gateway receives, by the real port. @type {Map<number, number>} */
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
