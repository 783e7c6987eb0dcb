// A rolling replacement under load: a new gateway starts, an old one receives SIGTERM, until all are replaced. Callers keep their
// connections and never retry. Every request without a 200 is a failure.
import { createHash } from 'node:crypto';
import { Agent, request } from 'node:http';
import { createBalancers } from './balancer.mjs';

/** @typedef {import('./balancer.mjs').Replica} Replica */
/** @typedef {{ readonly port: number, readonly key: string, readonly thinkMs: number, readonly kind: string }} Caller */
/** @typedef {{ requests: number, writes: number, failures: Record<string, number>, longestMs: number }} Counts */

const READ = '/api/v1/flow-runs?per_page=1';
const WRITE = '/api/v1/flows/1/start';
const BUSY_KEY = 'fake-rolling-key-busy';
const PATIENT_KEY = 'fake-rolling-key-patient';
const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
const hash = (/** @type {string} */ key) => createHash('sha256').update(key).digest('hex');

/**
 * Has a tenant that is never short of quota, and a tenant whose callers always wait for a slot.
 * @param {string} upstream @param {string} redisUrl
 */
export const rollingConfiguration = (upstream, redisUrl) => ({
  listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
  redis: { url: redisUrl, timeout: '1s' },
  accounts: {
    main: {
      quota: { limit: 1_000_000, ceiling: 900_000, burst: 50_000 },
      credentials: [{ id: 'primary', apiKey: 'fake-patchworks-key-primary' }],
    },
  },
  upstreams: { core: { origin: upstream }, start: { origin: upstream } },
  drain: { delay: '1s', timeout: '20s' },
  limits: { requestsPerSecond: 1_000_000 },
  log: { level: 'info' },
  tenants: {
    busy: { keys: [{ id: 'only', sha256: hash(BUSY_KEY) }], quota: { rate: 900_000, burst: 50_000, maxWait: '10s' } },
    patient: { keys: [{ id: 'only', sha256: hash(PATIENT_KEY) }], quota: { rate: 480, burst: 1, maxWait: '30s' } },
  },
});

/** @param {Caller} caller @param {Agent} agent @param {string} method @returns {Promise<string>} 200, or what came instead */
function ask({ port, key }, agent, method) {
  return new Promise((resolve) => {
    const body = method === 'POST' ? '{"payload":"x"}' : '';
    const headers = { 'X-API-Key': key, 'Content-Type': 'application/json', 'Content-Length': body.length };
    const sent = request({ port, method, path: method === 'POST' ? WRITE : READ, agent, headers }, (response) => {
      /** @type {Buffer[]} */
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', (/** @type {NodeJS.ErrnoException} */ error) => resolve(`body: ${error.code}`));
      response.on('end', () => {
        const { statusCode = 0 } = response;
        resolve(statusCode === 200 ? '200' : `${statusCode}: ${Buffer.concat(chunks).toString().slice(0, 200)}`);
      });
    });
    // On a new connection nothing excuses it.
    const on = () => (sent.reusedSocket ? 'a kept connection' : 'a new connection');
    sent.on('error', (/** @type {NodeJS.ErrnoException} */ error) =>
      resolve(`${error.code ?? error.message} on ${on()}`),
    );
    sent.end(body);
  });
}

/** @param {Caller} caller @param {Counts} counts @param {() => boolean} going */
async function call(caller, counts, going) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; going(); i++) {
    const method = i % 4 === 3 ? 'POST' : 'GET';
    const from = performance.now();
    const outcome = await ask(caller, agent, method);
    counts.requests += 1;
    if (method === 'POST') counts.writes += 1;
    if (outcome !== '200') {
      const failure = `${caller.kind}: ${outcome}`;
      counts.failures[failure] = (counts.failures[failure] ?? 0) + 1;
    }
    counts.longestMs = Math.max(counts.longestMs, performance.now() - from);
    await pause(caller.thinkMs * (0.5 + Math.random()));
  }
  agent.destroy();
}

/** Waits until an empty Redis admits requests: it first gives replicas time to join with their slots. @param {Replica} replica */
async function warmUp({ port }) {
  const agent = new Agent({ keepAlive: false });
  const caller = { kind: 'first', port, key: BUSY_KEY, thinkMs: 0 };
  for (let tries = 0; (await ask(caller, agent, 'GET')) !== '200'; tries++) {
    if (tries > 100) throw new Error('the gateways do not get ready');
    await pause(100);
  }
}

/**
 * Each replica is replaced once.
 * @param {{ boot: () => Promise<Replica>, replicas: number, callers: number }} options
 */
export async function rollingReplacement({ boot, replicas, callers }) {
  /** @type {Counts} */
  const counts = { requests: 0, writes: 0, failures: {}, longestMs: 0 };
  const balancers = await createBalancers();
  /** @type {Replica[]} */
  const running = [];
  for (let i = 0; i < replicas; i++) {
    const replica = await boot();
    running.push(replica);
    await balancers.add(replica);
    await warmUp(replica);
  }
  let going = true;
  const ports = [balancers.httpPort, balancers.tcpPort];
  /** @param {string} kind @param {number} count @param {string} key @param {number} thinkMs */
  const several = (kind, count, key, thinkMs) =>
    Array.from({ length: count }, (_, i) =>
      call({ kind, port: /** @type {number} */ (ports[i % 2]), key, thinkMs }, counts, () => going),
    );
  const all = [...several('busy', callers, BUSY_KEY, 20), ...several('patient', 6, PATIENT_KEY, 10)];
  /** @type {(number | null)[]} */
  const exits = [];
  await pause(500);
  for (const [index, old] of [...running].entries()) {
    const fresh = await boot();
    await balancers.add(fresh);
    running[index] = fresh;
    exits.push(await old.stop());
    balancers.remove(old);
  }
  await pause(500);
  going = false;
  await Promise.all(all);
  balancers.close();
  await Promise.all(running.map((replica) => replica.stop()));
  return { ...counts, exits, longestMs: Math.round(counts.longestMs) };
}
