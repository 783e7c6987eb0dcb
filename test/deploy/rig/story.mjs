// All that the dashboards can show, within half a minute. What is counted happens twice, some scrapes apart: an increase
// needs a series to start from, and a series begins with the first of its kind.
import { end, pause, until } from './children.mjs';
import { keyOf } from './configuration.mjs';
import { askWrongly, call, crowd, falter, keepCalling, repeat, throttle } from './load.mjs';

/** @typedef {import('./stage.mjs').Stage} Stage */

/** @typedef {(count: number) => Promise<unknown>} Scrapes */

/**
 * @param {Stage} stage @param {number} scrapeMs
 * @param {() => Promise<boolean>} enough whether all that comes in rounds has been seen: on a busy machine a short one can fall
 *   between two scrapes, and a third or fourth round is needed
 */
export async function everythingHappens(stage, scrapeMs, enough) {
  const stop = new AbortController();
  // Less than there is, so that what costs a slot of its own gets one; what waits and is refused is the crowd's.
  const calling = keepCalling(stage, stop.signal, () => 0.3);
  /** @type {Scrapes} */
  const scrapes = (count) => pause(count * scrapeMs);
  try {
    await until(
      'requests are admitted',
      async () => (await call(stage, keyOf('billing'), { path: '/api/v1/flow-runs' })) === 200,
    );
    await oneRound(stage, 'first', scrapes);
    await oneRound(stage, 'second', scrapes);
    await loseRedis(stage);
    await loseLines(stage);
    for (const round of ['third', 'fourth']) if (!(await enough())) await oneRound(stage, round, scrapes);
    await loseReplica(stage);
    await scrapes(2);
  } finally {
    stop.abort();
    await calling;
  }
}

/** @param {Stage} stage @param {string} round @param {Scrapes} scrapes */
async function oneRound(stage, round, scrapes) {
  await scrapes(2);
  await changeCredential(stage);
  await reloadTwice(stage, round);
  await Promise.all([askWrongly(stage), repeat(stage, round)]);
  await crowd(stage, 42);
  await stumble(stage);
  await scrapes(2);
  await externalUsage(stage);
  await coolDown(stage);
  await scrapes(2);
}

/** @param {Stage} stage @param {string} expression */
async function shows(stage, expression) {
  return (await stage.prometheus.now(expression)).some(({ values }) => values.some(([, value]) => value > 0));
}

/**
 * Does something, again and again, until Prometheus has seen that it was counted.
 * @param {Stage} stage @param {string} counter @param {() => Promise<unknown>} act
 */
async function untilCounted(stage, counter, act) {
  const counted = async () => (await stage.prometheus.now(`sum(${counter})`))[0]?.values[0]?.[1] ?? 0;
  const before = await counted();
  await until(`${counter} counts`, async () => {
    await act();
    return (await counted()) > before;
  });
}

/** @param {Stage} stage @param {string} round */
async function reloadTwice(stage, round) {
  const reloads = (/** @type {string} */ outcome) => `patchgate_config_reloads_total{outcome="${outcome}"}`;
  const bad = JSON.stringify({ ...stage.settings, [round]: 'no such option' });
  await untilCounted(stage, reloads('refused'), () => stage.reload(bad));
  const good = JSON.stringify({
    ...stage.settings,
    log: { level: round === 'first' || round === 'third' ? 'debug' : 'info' },
  });
  await untilCounted(stage, reloads('ok'), () => stage.reload(good));
}

/**
 * The token is worthless: a new one is fetched, and the request sent again, if there is a slot for that. Then the password
 * is, too: the next credential is used. Then both work again.
 * @param {Stage} stage
 */
async function changeCredential(stage) {
  const { credentials } = stage.simulator;
  const ask = async () => {
    credentials.expireTokens();
    for (let i = 0; i < 4; i++) await call(stage, keyOf('billing'), { path: '/api/v1/flow-runs' });
    // A login whose tokens are worthless one after the other is left alone for minutes.
    await pause(1_000);
  };
  await untilCounted(stage, 'patchgate_upstream_retries_total', ask);
  credentials.rejectLogins(true);
  await untilCounted(stage, 'patchgate_credential_refreshes_total{outcome!~"ok|shared"}', ask);
  credentials.rejectLogins(false);
}

/** Callers of other replicas meet what was meant for this one, too. @param {Stage} stage */
async function stumble(stage) {
  const [first] = stage.gateways;
  await untilCounted(stage, `patchgate_upstream_invalid_headers_total{instance="${first?.admin}"}`, async () => {
    falter(stage);
    for (let i = 0; i < 6; i++) await call(stage, keyOf('billing'), { path: '/api/v1/flow-runs' });
    stage.simulator.clearFaults();
  });
}

/** External usage shows when it exceeds the requests that the gateway may have sent itself. @param {Stage} stage */
async function externalUsage(stage) {
  await until('external usage shows', async () => {
    stage.simulator.useExternally(20);
    await call(stage, keyOf('billing'), { path: '/api/v1/flow-runs' });
    return shows(stage, 'patchgate_quota_external_usage');
  });
}

/** A 429 begins a cooldown of the account. Callers in the background may be the ones that meet it. @param {Stage} stage */
async function coolDown(stage) {
  await untilCounted(stage, 'patchgate_quota_decisions_total{decision="cooldown"}', async () => {
    stage.simulator.clearFaults();
    throttle(stage, 2);
    for (const tenant of ['billing', 'orders']) await call(stage, keyOf(tenant), { path: '/api/v1/flow-runs' });
  });
}

/** @param {Stage} stage */
async function loseRedis(stage) {
  await stage.redis.stop();
  await until('a replica works on its own share', async () => {
    await askWrongly(stage);
    return shows(stage, 'patchgate_redis_fallback_active');
  });
  stage.redis.start();
  await until(
    'the replicas are back',
    async () => !(await shows(stage, 'patchgate_redis_fallback_active or (patchgate_redis_up == bool 0)')),
  );
}

/** Stops the reader of the log of one replica. @param {Stage} stage */
async function loseLines(stage) {
  stage.gateways[0]?.child.stdout.destroy();
  await until('log lines are lost', () => shows(stage, 'patchgate_log_lines_dropped_total'));
}

/** @param {Stage} stage */
async function loseReplica(stage) {
  const last = stage.gateways.pop();
  if (last === undefined) throw new Error('there is no replica to lose');
  await end(last.child);
  await until('a replica is gone', () => shows(stage, 'up{job="patchgate"} == bool 0'));
}
