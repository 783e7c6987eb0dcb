// Large downloads, one after the other: how fast, and how much memory they take on the way.

import { readTree } from './proc.mjs';
import { bringUp } from './rounds.mjs';
import { LARGE_BYTES, questionOf } from './work.mjs';

/** 1 GiB a round. */
const DOWNLOADS = 4;
const LOOK_EVERY_MS = 20;

/**
 * @typedef {{ mibPerSecond: number, cpuMillisPerGib: number, peakBytes: number }} StreamRound
 * @typedef {{ id: string, name: string, idleBytes: number, startMs: number, rounds: StreamRound[] }} Streamed
 */

/**
 * @param {import('./rounds.mjs').Bench} bench @param {import('./work.mjs').Work} work
 * @param {readonly import('./contestants/contestant.mjs').Contestant[]} contestants
 * @param {{ rounds: number, say: (line: string) => void }} options
 * @returns {Promise<Streamed[]>}
 */
export async function measureStreams(bench, work, contestants, { rounds, say }) {
  const all = await bringUp(bench, work, contestants);
  /** @type {Streamed[]} */
  const measured = all.map(({ contestant: { id, name }, idleBytes, startMs }) => ({
    id,
    name,
    idleBytes,
    startMs,
    rounds: [],
  }));
  try {
    for (let turn = 0; turn < rounds; turn++) {
      for (const [i, ready] of all.entries()) {
        const result = await download(bench, work, ready);
        measured[i]?.rounds.push(result);
        const peak = (result.peakBytes / 1024 / 1024).toFixed(0);
        say(
          `stream ${turn + 1}/${rounds} ${ready.contestant.id}: ${result.mibPerSecond.toFixed(0)} MiB/s, ${peak} MiB RSS`,
        );
      }
    }
  } finally {
    await Promise.all(all.map(({ at }) => at.stop()));
  }
  return measured;
}

/**
 * @param {import('./rounds.mjs').Bench} bench @param {import('./work.mjs').Work} work @param {import('./rounds.mjs').Ready} ready
 * @returns {Promise<StreamRound>}
 */
async function download({ rig }, work, { at, contestant }) {
  const { path, headers } = questionOf(work);
  const before = readTree(at.pid).cpuMs;
  let peakBytes = 0;
  const looking = setInterval(() => {
    peakBytes = Math.max(peakBytes, readTree(at.pid).rssBytes);
  }, LOOK_EVERY_MS);
  const fields = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const from = performance.now();
  const ended = await rig.run('load', 'h2load', [
    ...['--h1', '-n', String(DOWNLOADS), '-c', '1', ...fields],
    `http://127.0.0.1:${at.port}${path}`,
  ]);
  const seconds = (performance.now() - from) / 1_000;
  clearInterval(looking);
  const bytes = Number(/\((\d+)\) data/.exec(ended.stdout)?.[1] ?? 0);
  if (bytes !== DOWNLOADS * LARGE_BYTES) throw new Error(`${contestant.id} sent ${bytes} bytes: ${ended.stdout}`);
  const gib = bytes / 1024 ** 3;
  return {
    mibPerSecond: bytes / 1024 ** 2 / seconds,
    cpuMillisPerGib: (readTree(at.pid).cpuMs - before) / gib,
    peakBytes,
  };
}
