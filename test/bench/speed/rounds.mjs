// Runs a kind of work: all contestants are alive at once, and take turns at the work.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ask, until } from './ask.mjs';
import { faultsOfRound, probe, sizeOf } from './probe.mjs';
import { readCore, readTree } from './proc.mjs';
import { constantRate } from './rate.mjs';
import { questionOf } from './work.mjs';
import { wrk } from './wrk.mjs';

/**
 * @typedef {import('./contestants/contestant.mjs').Contestant} Contestant
 * @typedef {import('./contestants/contestant.mjs').Started} Started
 * @typedef {import('./work.mjs').Work} Work
 * @typedef {{ rig: import('./rig.mjs').Rig, upstream: import('./upstream.mjs').Upstream, redis: number }} Bench the port of Redis
 * @typedef {{ contestant: Contestant, at: Started, startMs: number, idleBytes: number }} Ready
 * @typedef {{ rate: number, cpuMicros: number, busy: number, others: number }} Round shares of the core: what the
 *   contestant had of it, and other programs
 * @typedef {import('./rate.mjs').Latency & { cpuMicros: number }} LatencyRound
 * @typedef {{ id: string, name: string, rounds: Round[], latency: LatencyRound[], startMs: number, idleBytes: number, endBytes: number }} Measured
 */

/**
 * @param {Bench} bench @param {Work} work @param {readonly Contestant[]} contestants
 * @returns {Promise<Ready[]>} ready, warm and answering rightly
 */
export async function bringUp({ rig, upstream }, work, contestants) {
  /** @type {Ready[]} */
  const all = [];
  /** @type {import('./ask.mjs').Answer | null} */
  let sample = null;
  for (const contestant of contestants) {
    const folder = join(rig.scratch, `${work.kind}-${contestant.id}`);
    mkdirSync(folder, { recursive: true });
    const from = performance.now();
    const at = await contestant.start({ rig, upstream, work, folder, sample });
    const failed = () => `${contestant.name} is not ready: ${at.said()}`;
    await until(at.ready, { withinMs: 10_000, everyMs: 2, what: failed });
    const startMs = performance.now() - from;
    const idleBytes = readTree(at.pid).rssBytes;
    // The first responses fill caches and buckets.
    if (!work.large)
      await until(async () => ((await ask(at.port, questionOf(work))).status === 200 ? true : null), {
        ...{ withinMs: 10_000, everyMs: 20 },
        what: () => `${contestant.name} never answers 200: ${at.said()}`,
      });
    const answer = await probe(work, at, contestant);
    if (contestant.id.startsWith('gateway')) sample ??= answer;
    all.push({ contestant, at, startMs, idleBytes });
  }
  return all;
}

/**
 * @param {Bench} bench @param {Work} work @param {Ready} ready @param {number} seconds
 * @returns {Promise<Round>}
 */
async function round({ rig, upstream }, work, { contestant, at }, seconds) {
  const before = await probe(work, at, contestant);
  const reachedBefore = await upstream.requests();
  const cpuBefore = readTree(at.pid).cpuMs;
  const coreBefore = readCore(rig.cores.proxy);
  const from = performance.now();
  const load = await wrk(rig, { port: at.port, question: questionOf(work), seconds });
  const cpuMs = readTree(at.pid).cpuMs - cpuBefore;
  const coreMs = readCore(rig.cores.proxy) - coreBefore;
  const tookMs = performance.now() - from;
  const reached = (await upstream.requests()) - reachedBefore - 1;
  await probe(work, at, contestant);
  const faults = faultsOfRound(work, load, { reached, probeBytes: sizeOf(before) });
  const pretence = (await at.pretends?.()) ?? null;
  if (pretence !== null) faults.push(pretence);
  if (faults.length > 0) throw new Error(`${contestant.id}, "${work.kind}": ${faults.join('; ')}`);
  return {
    rate: load.requests / load.seconds,
    cpuMicros: (cpuMs * 1000) / load.requests,
    busy: cpuMs / (load.seconds * 1000),
    others: Math.max(0, coreMs - cpuMs) / tookMs,
  };
}

/** V8 compiles what runs often: until then a request costs several times as much. */
const STEADY = 0.1;
const MOST_WARM_ROUNDS = 4;
const WARM_SECONDS = 1;

/**
 * Under load until two rounds in a row cost the same.
 * @param {Bench} bench @param {Work} work @param {Ready} ready
 */
async function warmUp(bench, work, ready) {
  let last = await round(bench, work, ready, WARM_SECONDS);
  for (let turn = 1; turn < MOST_WARM_ROUNDS; turn++) {
    const next = await round(bench, work, ready, WARM_SECONDS);
    if (Math.abs(next.cpuMicros / last.cpuMicros - 1) < STEADY) return;
    last = next;
  }
}

/**
 * At {@link constantRate}, which is a fraction of what any of them can do.
 * @param {Bench} bench @param {Work} work @param {Ready} ready @param {number} seconds
 * @returns {Promise<LatencyRound>}
 */
async function latencyRound({ rig }, work, { at }, seconds) {
  const before = readTree(at.pid).cpuMs;
  const { requests, ...latency } = await constantRate(rig, { port: at.port, question: questionOf(work), seconds });
  return { ...latency, cpuMicros: ((readTree(at.pid).cpuMs - before) * 1_000) / requests };
}

/**
 * Runs the contestants in turns, with the order reversed in every other turn, so that the order is no advantage.
 * @param {number} turns @param {number} contestants @param {(contestant: number, turn: number) => Promise<void>} act
 */
async function inTurns(turns, contestants, act) {
  for (let turn = 0; turn < turns; turn++) {
    for (let place = 0; place < contestants; place++) {
      await act(turn % 2 === 0 ? place : contestants - 1 - place, turn);
    }
  }
}

/**
 * @param {Bench} bench @param {Work} work @param {readonly Contestant[]} contestants
 * @param {{ rounds: number, seconds: number, latencyRounds: number, latencySeconds: number, say: (line: string) => void }} options
 * @returns {Promise<Measured[]>}
 */
export async function measure(bench, work, contestants, options) {
  const { rounds, seconds, latencyRounds, latencySeconds, say } = options;
  const all = await bringUp(bench, work, contestants);
  /** @type {Measured[]} */
  const measured = all.map(({ contestant: { id, name }, startMs, idleBytes }) => ({
    ...{ id, name, startMs, idleBytes, endBytes: 0 },
    ...{ rounds: [], latency: [] },
  }));
  const of = (/** @type {number} */ i) => ({
    ready: /** @type {Ready} */ (all[i]),
    entry: /** @type {Measured} */ (measured[i]),
  });
  try {
    for (const each of all) await warmUp(bench, work, each);
    await inTurns(rounds, all.length, async (i, turn) => {
      const { ready, entry } = of(i);
      const result = await round(bench, work, ready, seconds);
      entry.rounds.push(result);
      const { rate, cpuMicros, busy } = result;
      const told = `${rate.toFixed(0)}/s, ${cpuMicros.toFixed(1)} µs CPU, ${(busy * 100).toFixed(0)} % of its core`;
      say(`${work.kind} ${turn + 1}/${rounds} ${entry.id}: ${told}`);
    });
    for (const [i, each] of all.entries()) of(i).entry.endBytes = readTree(each.at.pid).rssBytes;
    await inTurns(latencyRounds, all.length, async (i, turn) => {
      const { ready, entry } = of(i);
      const result = await latencyRound(bench, work, ready, latencySeconds);
      entry.latency.push(result);
      const [p50, p99] = [result.p50, result.p99].map((ms) => ms.toFixed(3));
      say(`${work.kind}, constant rate, ${turn + 1}/${latencyRounds} ${entry.id}: p50 ${p50} ms, p99 ${p99} ms`);
    });
  } finally {
    await Promise.all(all.map(({ at }) => at.stop()));
  }
  return measured;
}
