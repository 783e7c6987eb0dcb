import type { AddressInfo } from 'node:net';
import { decide, type SimulatorState } from './application.ts';
import { collectionRoutes } from './collection-routes.ts';
import { Contracts } from './contracts.ts';
import type { Simulator } from './control.ts';
import { handleControl } from './control.ts';
import { Credentials } from './credentials.ts';
import { Dataset } from './dataset.ts';
import { Faults } from './faults.ts';
import { flowRoutes } from './flow-routes.ts';
import { TokenIssuer } from './issuer.ts';
import { seededRandom } from './latency.ts';
import { identityRoutes, loginRoutes } from './login-routes.ts';
import { nestedRoutes } from './nested-routes.ts';
import { Operations } from './operations.ts';
import { type CompleteOptions, type SimulatorOptions, withDefaults } from './options.ts';
import { Recorder } from './record.ts';
import { json } from './result.ts';
import { Router, type Routes } from './router.ts';
import { Runs } from './runs.ts';
import { createApiServer } from './server.ts';
import { checkedSwitches } from './switches.ts';
import { Throttle } from './throttle.ts';
import { openTriggerHosts } from './trigger-hosts.ts';
import { TRIGGER_HOSTS } from './trigger-options.ts';

/** Every route that needs a credential. */
export const API: Routes = { ...flowRoutes, ...nestedRoutes, ...collectionRoutes, ...identityRoutes };

/**
 * A stand-in for the Patchworks API: the hosts core, start and fabric behind one port, distinguished by path. It is exact
 * where the gateway depends on it (authentication, throttle, order of checks, errors, paginator), and plausible elsewhere.
 *
 * Throws a TypeError for malformed options, and the error of `listen` (`EADDRINUSE`).
 */
export async function createSimulator(given: SimulatorOptions = {}): Promise<Simulator> {
  const options = withDefaults(given);
  const state = createState(options);
  const { server, stop } = createApiServer({
    state,
    decide: (request, arrival) => decide(state, request, arrival),
    random: seededRandom(options.seed + 1),
    keepAliveTimeoutMs: options.keepAliveTimeoutMs,
    control: options.control ? (incoming, outgoing) => handleControl(incoming, outgoing, simulator) : null,
  });
  const hosts =
    options.triggers === null
      ? null
      : await openTriggerHosts(state, options.triggers, {
          ...options,
          random: seededRandom(options.seed + 2),
          ports: options.triggerPorts,
        });
  const simulator = simulatorOf(state, {
    host: options.host,
    port: () => (server.address() as AddressInfo).port,
    close: async () => {
      stop();
      server.closeAllConnections();
      await Promise.all([new Promise((resolve) => server.close(resolve)), hosts?.close()]);
    },
    triggers: hosts?.urls ?? null,
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.port, options.host, resolve);
    });
  } catch (error) {
    await hosts?.close();
    throw error;
  }
  return simulator;
}

function createState({ clock, switches, seed, accounts, recordSize, triggers }: CompleteOptions): SimulatorState {
  const router = new Router();
  const credentials = new Credentials({ clock, switches, accounts });
  const contracts = new Contracts(switches, accounts);
  const operations = new Operations(clock, switches, contracts);
  router.add(API, 'credential');
  router.add(loginRoutes, 'login');
  router.add({ 'GET /health': () => json(200, { status: 'ok' }) }, 'open');
  // Each account has different data, so that a test notices a response that reached the wrong caller.
  const own = [...accounts.keys()].map((id, index) => {
    const of = { 'flow-run-logs': () => switches.runLogsMs, 'payload-metadata': () => switches.payloadsMs };
    const data = new Dataset(seed + index * 1000, { clock, of });
    return [id, { data, runs: new Runs(clock, data, switches, () => contracts.concurrentRunsOf(id)) }] as const;
  });
  return {
    router,
    credentials,
    throttle: new Throttle(clock, switches),
    contracts,
    operations,
    faults: new Faults(),
    recorder: new Recorder(recordSize, [...accounts.keys(), ...(triggers === null ? [] : Object.keys(TRIGGER_HOSTS))]),
    switches,
    clock,
    accounts: new Map(own),
  };
}

function simulatorOf(
  state: SimulatorState,
  { host, port, close, triggers }: Pick<Simulator, 'close' | 'triggers'> & { host: string; port: () => number },
): Simulator {
  const { credentials, throttle, contracts, operations, faults, recorder, switches, accounts, clock } = state;
  const [first = ''] = accounts.keys();
  const dataOf = (account: string): Dataset => {
    const own = accounts.get(account);
    if (own === undefined) throw new TypeError(`there is no account "${account}"`);
    own.runs.advance();
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
    triggers,
    switches,
    credentials,
    issuer: new TokenIssuer(clock),
    set: (changed) => void Object.assign(switches, checkedSwitches(changed)),
    arrivals: () => recorder.arrivals(),
    stats: () => recorder.stats(),
    reset: () => recorder.reset(),
    fault: (rule) => faults.arm(rule),
    clearFaults: () => faults.clear(),
    useExternally: (count, account = first) => {
      dataOf(account);
      // If each key has its own counter, others have one too.
      const scope = switches.scope === 'account' ? account : `${account} others`;
      const used = throttle.use(scope, contracts.limitOf(account), count);
      recorder.external(account, used);
      return used;
    },
    accounts: () => {
      const statusOf = (id: string) => {
        const { operations: allowed, ...terms } = contracts.of(id);
        return [id, { ...terms, operations: { allowed, ...operations.usedBy(id) } }] as const;
      };
      return Object.fromEntries([...accounts.keys()].map(statusOf));
    },
    setAccount: (changed, account = first) => {
      dataOf(account);
      contracts.change(account, changed);
    },
    useOperations: (count, account = first) => {
      dataOf(account);
      operations.use(account, count);
    },
    close,
  };
}
