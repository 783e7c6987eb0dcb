import type { AddressInfo } from 'node:net';
import type { Simulator } from './api.ts';
import type { World } from './application.ts';
import { addCollections } from './collections.ts';
import { handleControl } from './control.ts';
import { Credentials } from './credentials.ts';
import { Dataset } from './dataset.ts';
import { Faults } from './faults.ts';
import { addIdentity } from './identity.ts';
import { seededRandom } from './latency.ts';
import { addNested } from './nested.ts';
import { type CompleteOptions, type SimulatorOptions, withDefaults } from './options.ts';
import { Recorder } from './record.ts';
import { Router } from './router.ts';
import { Runs } from './runs.ts';
import { createApiServer } from './server.ts';
import { addStarts } from './starts.ts';
import { checkedSwitches } from './switches.ts';
import { Throttle } from './throttle.ts';

/**
 * A stand-in for the Patchworks API: hosts core, start and fabric behind one port, told apart by path. Faithful where the
 * gateway depends on it (authentication, throttle, order of checks, errors, paginator), plausible elsewhere.
 *
 * Throws a TypeError for malformed options, and what `listen` fails with (`EADDRINUSE`).
 */
export async function createSimulator(given: SimulatorOptions = {}): Promise<Simulator> {
  const options = withDefaults(given);
  const world = createWorld(options);
  const { server, stop } = createApiServer({
    world,
    random: seededRandom(options.seed + 1),
    keepAliveTimeoutMs: options.keepAliveTimeoutMs,
    control: options.control ? (incoming, outgoing) => handleControl(incoming, outgoing, simulator) : null,
  });
  const simulator = simulatorOf(world, {
    host: options.host,
    port: () => (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        stop();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  return simulator;
}

function createWorld({ clock, switches, seed, accounts, recordSize }: CompleteOptions): World {
  const router = new Router();
  const credentials = new Credentials({ clock, switches, accounts });
  addIdentity(router.add, switches, credentials);
  addStarts(router.add, switches, clock);
  addNested(router.add, switches, clock);
  addCollections(router.add, switches);
  // Different data for each account: an answer that reached the wrong one must show.
  const own = [...accounts.keys()].map((id, index) => {
    const data = new Dataset(seed + index * 1000);
    return [id, { data, runs: new Runs(clock, data) }] as const;
  });
  return {
    router,
    credentials,
    throttle: new Throttle(clock, switches),
    faults: new Faults(),
    recorder: new Recorder(recordSize, accounts.keys()),
    switches,
    clock,
    accounts: new Map(own),
    limitOf: (account) => accounts.get(account)?.limit ?? switches.limit,
  };
}

function simulatorOf(
  world: World,
  { host, port, close }: { host: string; port: () => number; close: () => Promise<void> },
): Simulator {
  const { credentials, throttle, faults, recorder, switches, accounts } = world;
  const [first = ''] = accounts.keys();
  const dataOf = (account: string): Dataset => {
    const own = accounts.get(account);
    if (own === undefined) throw new TypeError(`there is no account "${account}"`);
    own.runs.settle();
    return own.data;
  };
  return {
    get url() {
      return `http://${host.includes(':') ? `[${host}]` : host}:${port()}`;
    },
    get port() {
      return port();
    },
    get data() {
      return dataOf(first);
    },
    dataOf,
    switches,
    credentials,
    set: (changed) => void Object.assign(switches, checkedSwitches(changed)),
    arrivals: () => recorder.arrivals(),
    stats: () => recorder.stats(),
    reset: () => recorder.reset(),
    fault: (rule) => faults.arm(rule),
    clearFaults: () => faults.clear(),
    useForeign: (count, account = first) => {
      dataOf(account);
      // Where keys are counted each for itself, others have a counter of their own.
      const scope = switches.scope === 'account' ? account : `${account} others`;
      const used = throttle.use(scope, world.limitOf(account), count);
      recorder.foreign(account, used);
      return used;
    },
    close,
  };
}
