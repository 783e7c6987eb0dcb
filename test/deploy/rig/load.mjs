// Tenants that call the gateways, each in its own manner, and what goes wrong now and then.
import { request } from 'node:https';
import { EXPIRED_KEY, keyOf } from './configuration.mjs';

/** @typedef {import('./stage.mjs').Stage} Stage */
/** @typedef {{ method?: string, path: string, headers?: Record<string, string>, body?: string }} Call */

const JSON_BODY = { 'Content-Type': 'application/json' };
const page = (/** @type {number} */ most) => 1 + Math.floor(Math.random() * most);

/** Sends a request once; the metrics show its result. @param {Stage} stage @param {string | null} key @param {Call} call */
export function call(stage, key, call) {
  // Always the same replica: what is counted twice is counted twice there, and an increase can be seen.
  return callAt(stage.gateways[0], key, call);
}

/**
 * @param {import('./stage.mjs').Gateway | undefined} gateway @param {string | null} key @param {Call} call
 * @returns {Promise<number>} the status; 0 without a response
 */
function callAt(gateway, key, { method = 'GET', path, headers = {}, body }) {
  if (gateway === undefined) return Promise.resolve(0);
  return new Promise((resolve) => {
    const asked = request(`${gateway.url}${path}`, {
      method,
      agent: gateway.agent,
      headers: { ...(key !== null && { 'X-API-Key': key }), ...headers },
      signal: AbortSignal.timeout(20_000),
    });
    asked.on('response', (answer) => {
      answer.on('error', () => resolve(answer.statusCode ?? 0));
      answer.resume().on('end', () => resolve(answer.statusCode ?? 0));
    });
    asked.on('error', () => resolve(0));
    asked.end(body);
  });
}

/** The manner of each tenant: how long it pauses between two calls, how many callers it has, and what it asks for. */
const MANNERS = /** @type {Record<string, { everyMs: number, callers: number, next: () => Call }>} */ ({
  storefront: { everyMs: 250, callers: 4, next: () => ({ path: `/api/v1/connectors?page=${page(6)}` }) },
  orders: {
    everyMs: 900,
    callers: 3,
    next: () =>
      Math.random() < 0.5
        ? { path: `/api/v1/flows?page=${page(4)}` }
        : { method: 'POST', path: '/api/v1/flows/1/start', headers: JSON_BODY, body: '{}' },
  },
  billing: { everyMs: 1_400, callers: 3, next: () => ({ path: `/api/v1/flow-runs?page=${page(50)}` }) },
  reports: { everyMs: 350, callers: 3, next: () => ({ path: `/api/v1/flow-run-logs?page=${page(50)}` }) },
  legacy: { everyMs: 1_600, callers: 1, next: () => ({ path: `/api/v1/scripts?page=${page(30)}` }) },
  trial: { everyMs: 1_800, callers: 2, next: () => ({ path: `/api/v1/scripts?page=${page(30)}` }) },
  exports: { everyMs: 1_000, callers: 2, next: () => ({ path: `/api/v1/systems?page=${page(50)}` }) },
});

/**
 * Until the signal; resolves when all callers have stopped.
 * @param {Stage} stage @param {AbortSignal} signal @param {(tenant: string) => number} [eagerness] 2: twice as often
 */
export async function keepCalling(stage, signal, eagerness = () => 1) {
  const pause = pausesUntil(signal);
  const callers = Object.keys(stage.settings['tenants']).flatMap((tenant) => {
    const manner = MANNERS[tenant];
    return manner === undefined ? [] : Array.from({ length: manner.callers }, () => ({ tenant, manner }));
  });
  await Promise.all(
    callers.map(async ({ tenant, manner }) => {
      while (!signal.aborted) {
        const { gateways } = stage;
        await callAt(gateways[Math.floor(Math.random() * gateways.length)], keyOf(tenant), manner.next());
        await pause((manner.everyMs * (0.4 + 1.2 * Math.random())) / eagerness(tenant));
      }
    }),
  );
}

/** Pauses that end at once when the signal comes. @param {AbortSignal} signal */
function pausesUntil(signal) {
  /** @type {Set<() => void>} */
  const pausing = new Set();
  const wakeAll = () => {
    for (const wake of pausing) wake();
  };
  signal.addEventListener('abort', wakeAll, { once: true });
  return (/** @type {number} */ ms) =>
    new Promise((/** @type {(value: void) => void} */ resolve) => {
      const wake = () => {
        clearTimeout(timer);
        pausing.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      pausing.add(wake);
    });
}

/** Requests that the gateway refuses by their key, path or permission. @param {Stage} stage */
export async function askWrongly(stage) {
  const orders = keyOf('orders');
  await Promise.all([
    call(stage, null, { path: '/api/v1/flows' }),
    call(stage, 'fake-key-of-nobody', { path: '/api/v1/flows' }),
    call(stage, EXPIRED_KEY, { path: '/api/v1/flows' }),
    call(stage, null, { path: '/api/v1/flows', headers: { Authorization: 'Bearer e30.e30.AA' } }),
    call(stage, orders, { method: 'DELETE', path: '/api/v1/flows/1' }),
    call(stage, orders, { path: '/nowhere' }),
    call(stage, orders, { path: '/api/v1/flows', headers: { 'Cache-Control': 'only-if-cached, no-cache' } }),
  ]);
}

/** The same at once, a write repeated, and its key used for another one. @param {Stage} stage @param {string} key */
export async function repeat(stage, key) {
  const orders = keyOf('orders');
  const start = (/** @type {string} */ body) => ({
    method: 'POST',
    path: '/api/v1/flows/1/start',
    headers: { ...JSON_BODY, 'Idempotency-Key': key },
    body,
  });
  await call(stage, orders, start('{}'));
  await call(stage, orders, start('{}'));
  await call(stage, orders, start('{"other": true}'));
  const path = `/api/v1/connectors?page=1&search=${key}`;
  await Promise.all(Array.from({ length: 6 }, () => call(stage, orders, { path })));
}

/** More at once than there is: some do not wait, some wait in vain, most wait. @param {Stage} stage @param {number} count */
export async function crowd(stage, count) {
  const path = () => `/api/v1/flow-runs?page=${page(50)}`;
  const patience = (/** @type {number} */ i) => ({ Prefer: `wait=${[0, 1, 8, 8, 8, 8][i % 6]}` });
  await Promise.all(
    Array.from({ length: count }, (_, i) => call(stage, keyOf('orders'), { path: path(), headers: patience(i) })),
  );
}

/** Not those of all: what goes wrong once is meant for one account. */
const FAULTY = 'GET /api/v1/flow-runs/**';

/** Patchworks answers 429 once, and asks to wait. @param {Stage} stage @param {number} seconds */
export function throttle({ simulator }, seconds) {
  const fault = { kind: /** @type {const} */ ('status'), status: 429, headers: { 'Retry-After': `${seconds}` } };
  simulator.fault({ match: FAULTY, times: 1, fault });
}

/** Patchworks breaks a connection, answers 503, and sends a limit field that is no number. @param {Stage} stage */
export function falter({ simulator }) {
  simulator.fault({ match: FAULTY, times: 2, fault: { kind: 'reset', when: 'before' } });
  simulator.fault({ match: FAULTY, times: 2, fault: { kind: 'status', status: 503 } });
  const headers = { 'X-RateLimit-Remaining': 'many' };
  simulator.fault({ match: FAULTY, times: 2, fault: { kind: 'headers', headers } });
}
