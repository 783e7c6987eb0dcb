// One kind of work: all contestants alive at once, one of them at work, in turns.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ask, until } from './ask.mjs';
import { faultsOfRound, probe, sizeOf } from './probe.mjs';
import { readTree } from './proc.mjs';
import { questionOf } from './work.mjs';
import { wrk } from './wrk.mjs';

/**
 * @typedef {import('./contestants/contestant.mjs').Contestant} Contestant
 * @typedef {import('./contestants/contestant.mjs').Started} Started
 * @typedef {import('./work.mjs').Work} Work
 * @typedef {{ rig: import('./rig.mjs').Rig, upstream: import('./upstream.mjs').Upstream }} Bench
 * @typedef {{ contestant: Contestant, at: Started, etag: string | null, startMs: number, idleBytes: number, answer: import('./ask.mjs').Answer }} Ready
 * @typedef {{ rate: number, cpuMicros: number, busy: number }} Round `busy`: share of its core that the contestant had
 * @typedef {{ id: string, name: string, rounds: Round[], startMs: number, idleBytes: number, endBytes: number }} Measured
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
    const etag = work.conditional ? await etagOf(work, at) : null;
    // The first answers fill caches and buckets, and use up the quota of who shall be refused.
    await until(async () => ((await ask(at.port, questionOf(work, etag))).status === work.status ? true : null), {
      withinMs: 10_000,
      everyMs: 20,
      what: () => `${contestant.name} never answers ${work.status}: ${at.said()}`,
    });
    const answer = await probe(work, at, contestant, etag);
    if (contestant.id.startsWith('gateway')) sample ??= answer;
    all.push({ contestant, at, etag, startMs, idleBytes, answer });
  }
  return all;
}

/** @param {Work} work @param {Started} at */
async function etagOf(work, at) {
  const { headers } = await ask(at.port, questionOf(work, null));
  if (headers.etag === undefined) return '"none"';
  return headers.etag;
}

/**
 * @param {Bench} bench @param {Work} work @param {Ready} ready @param {number} seconds
 * @returns {Promise<Round>}
 */
export async function round({ rig, upstream }, work, { contestant, at, etag }, seconds) {
  const before = await probe(work, at, contestant, etag);
  const reachedBefore = await upstream.requests();
  const cpuBefore = readTree(at.pid).cpuMs;
  const load = await wrk(rig, { port: at.port, question: questionOf(work, etag), seconds });
  const cpuMs = readTree(at.pid).cpuMs - cpuBefore;
  const reached = (await upstream.requests()) - reachedBefore - 1;
  await probe(work, at, contestant, etag);
  const faults = faultsOfRound(work, load, { reached, probeBytes: sizeOf(before) });
  if (faults.length > 0) throw new Error(`${contestant.id}, "${work.kind}": ${faults.join('; ')}`);
  return {
    rate: load.requests / load.seconds,
    cpuMicros: (cpuMs * 1000) / load.requests,
    busy: cpuMs / (load.seconds * 1000),
  };
}

/** V8 compiles what runs often: until then a request costs several times as much. */
const STEADY = 0.1;
const MOST_WARM_ROUNDS = 6;

/**
 * Under load until two rounds in a row cost the same.
 * @param {Bench} bench @param {Work} work @param {Ready} ready @param {number} seconds
 */
export async function warmUp(bench, work, ready, seconds) {
  let last = await round(bench, work, ready, seconds);
  for (let turn = 1; turn < MOST_WARM_ROUNDS; turn++) {
    const next = await round(bench, work, ready, seconds);
    if (Math.abs(next.cpuMicros / last.cpuMicros - 1) < STEADY) return;
    last = next;
  }
}

/**
 * @param {Bench} bench @param {Work} work @param {readonly Contestant[]} contestants
 * @param {{ rounds: number, seconds: number, say: (line: string) => void }} options
 * @returns {Promise<Measured[]>}
 */
export async function measure(bench, work, contestants, { rounds, seconds, say }) {
  const all = await bringUp(bench, work, contestants);
  const measured = all.map(({ contestant: { id, name }, startMs, idleBytes }) => ({
    ...{ id, name, startMs, idleBytes },
    endBytes: 0,
    rounds: /** @type {Round[]} */ ([]),
  }));
  try {
    for (const each of all) await warmUp(bench, work, each, seconds);
    for (let turn = 0; turn < rounds; turn++) {
      // Every other turn the other way round: who comes after whom is no advantage.
      const order = all.map((_, i) => (turn % 2 === 0 ? i : all.length - 1 - i));
      for (const i of order) {
        const ready = /** @type {Ready} */ (all[i]);
        const result = await round(bench, work, ready, seconds);
        measured[i]?.rounds.push(result);
        const { rate, cpuMicros, busy } = result;
        say(
          `${work.kind} ${turn + 1}/${rounds} ${ready.contestant.id}: ${rate.toFixed(0)}/s, ${cpuMicros.toFixed(1)} µs CPU, ${(busy * 100).toFixed(0)} % busy`,
        );
      }
    }
    all.forEach((each, i) => {
      const entry = measured[i];
      if (entry) entry.endBytes = readTree(each.at.pid).rssBytes;
    });
  } finally {
    await Promise.all(all.map(({ at }) => at.stop()));
  }
  return measured;
}
