// Latency at a constant rate, without coordinated omission: requests are due by the clock, not when the last response arrived.
// h2load spreads them over many connections, so that a slow response delays only the next one of its own connection, and
// only if it takes longer than that one's interval. Such responses are counted and corrected for.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { percentile } from './statistics.mjs';

export const RATE = 1_500;
const CONNECTIONS = 100;
const INTERVAL_US = (CONNECTIONS / RATE) * 1e6;
/** Connections are opened one a millisecond, which spreads what is due; what is sent meanwhile does not count. */
const SETTLING_US = 500_000;

/** @typedef {{ p50: number, p99: number, p999: number, late: number }} Latency milliseconds; responses that took longer than an interval */
/** @typedef {{ at: number, status: number, micros: number }} Sample */

/**
 * @param {import('./rig.mjs').Rig} rig
 * @param {{ port: number, question: import('./ask.mjs').Question, seconds: number }} options
 * @returns {Promise<Latency & { requests: number }>}
 */
export async function constantRate(rig, { port, question, seconds }) {
  const { path, headers, body } = question;
  const log = join(rig.scratch, 'h2load.log');
  const requests = Math.ceil(RATE * (seconds + SETTLING_US / 1e6));
  const sent = join(rig.scratch, 'h2load.body');
  if (body !== null) writeFileSync(sent, body);
  const ended = await rig.run('load', 'h2load', [
    '--h1',
    ...['-n', String(requests), '-c', String(CONNECTIONS), '-r', '1', '--rate-period=1ms'],
    ...[`--rps=${RATE / CONNECTIONS}`, `--log-file=${log}`],
    ...(body === null ? [] : ['-d', sent]),
    ...Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]),
    `http://127.0.0.1:${port}${path}`,
  ]);
  if (ended.code !== 0) throw new Error(`h2load: ${ended.stderr}`);
  const samples = parseLog(readFileSync(log, 'utf8'));
  rmSync(log);
  const wrong = samples.filter((each) => each.status !== 200).length;
  if (samples.length < requests || wrong > 0) {
    throw new Error(`h2load: ${samples.length} of ${requests} answers, ${wrong} of them not 200`);
  }
  return { ...latencyOf(samples, INTERVAL_US), requests };
}

/** @param {string} text start, status and duration of a request a line @returns {Sample[]} */
export const parseLog = (text) =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [at = 0, status = 0, micros = 0] = line.split('\t').map(Number);
      return { at, status, micros };
    });

/**
 * @param {readonly Sample[]} samples @param {number} intervalUs of one connection
 * @returns {Latency}
 */
export function latencyOf(samples, intervalUs) {
  const first = samples.reduce((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY);
  const counted = samples.filter(({ at }) => at - first >= SETTLING_US).map(({ micros }) => micros);
  const sorted = corrected(counted, intervalUs).sort((a, b) => a - b);
  const ms = (/** @type {number} */ share) => percentile(sorted, share) / 1_000;
  return {
    p50: ms(0.5),
    p99: ms(0.99),
    p999: ms(0.999),
    late: counted.filter((micros) => micros > intervalUs).length,
  };
}

/**
 * Adds the requests that were due behind a slow response, with what they would have waited (as HdrHistogram does).
 * @param {readonly number[]} durations @param {number} intervalUs
 */
export function corrected(durations, intervalUs) {
  const all = [...durations];
  for (const duration of durations) {
    for (let waited = duration - intervalUs; waited > 0; waited -= intervalUs) all.push(waited);
  }
  return all;
}
