// Sends at a constant rate, whatever comes back: each request is due at a moment fixed beforehand, and its latency counts
// from there. One that is sent late for want of a connection, or of time here, has waited.
import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { Pool } from 'undici';
import { WINDOW_SECONDS, wrongResponse } from './log.mjs';
import { kindByShare, makersOf, REPEAT, SLOW } from './mix.mjs';

/** @typedef {import('./mix.mjs').Sent} Sent */

const TICK_MS = 2;
/** Connections of each kind to each gateway: while the upstream stalls, every request without a cached response waits for 5 s. */
const CONNECTIONS = 1_500;
/** Longer than anything the gateway may take. */
const PATIENCE_MS = 45_000;
/** More under way than this, and what is due is not sent, which fails the run: it was no constant rate. */
const MOST_UNDER_WAY = 20_000;
const REPEAT_AFTER_MS = 400;
/** A download that takes a slow reader some seconds; more than sockets hold on the way. */
const SLOW_PATH = '/api/v1/payload-metadata/1/download?bytes=4000000&framing=chunked';
const SLOW_EVERY_MS = 2_000;
const SLOW_PAUSE_MS = 50;

/** @param {{ urls: readonly string[], rate: number, log: import('./log.mjs').Log }} options */
export function createGenerator({ urls, rate, log }) {
  const pools = urls.map((url) => ({
    fast: new Pool(url, { connections: CONNECTIONS, headersTimeout: PATIENCE_MS, bodyTimeout: PATIENCE_MS }),
    upstream: new Pool(url, { connections: CONNECTIONS, headersTimeout: PATIENCE_MS, bodyTimeout: PATIENCE_MS }),
  }));
  /** @type {Map<string, string>} */
  const tags = new Map();
  const makers = makersOf(tags);
  const began = performance.now();
  const make = (/** @type {string} */ kind) => /** @type {() => Sent} */ (makers[kind])();
  let surge = 0;
  let turn = 0;
  const now = () => performance.now() - began;

  /** @param {Sent} sent @param {number} dueMs */
  async function send(sent, dueMs) {
    log.begin();
    turn += 1;
    const pool = /** @type {(typeof pools)[number]} */ (pools[turn % pools.length])[sent.through];
    const id = randomUUID();
    const leaving = sent.abortMs === undefined ? null : leaveAfter(sent.abortMs);
    let outcome = '';
    let text = '';
    try {
      const response = await pool.request({
        ...{ method: /** @type {'GET'} */ (sent.method), path: sent.path, body: sent.body ?? null },
        headers: { ...sent.headers, 'x-request-id': id },
        ...(leaving !== null && { signal: leaving }),
      });
      text = await response.body.text();
      outcome = String(response.statusCode);
      check(sent, id, response, text);
    } catch (error) {
      outcome = leaving?.aborted ? 'aborted' : `broken: ${codeOf(error)}`;
    }
    log.end(sent.kind, outcome, dueMs / 1000, now() - dueMs);
    if (sent.keyed && outcome === '200') void repeat(sent, text);
  }

  /** Repeats a write with its key, which must replay the first response and send nothing. @param {Sent} sent @param {string} first */
  async function repeat(sent, first) {
    await new Promise((resolve) => setTimeout(resolve, REPEAT_AFTER_MS));
    await send({ ...sent, kind: REPEAT.kind, keyed: false, shows: first }, now());
  }

  /** @param {Sent} sent @param {string} id @param {import('undici').Dispatcher.ResponseData} response @param {string} text */
  function check(sent, id, { statusCode, headers }, text) {
    // The gateway rejects a request that arrives too slowly before it reads its id.
    if (headers['x-request-id'] !== id && statusCode !== 400 && statusCode !== 408)
      log.wrong(`the request id of another request, ${sent.kind}`);
    if (statusCode !== 200) return;
    if (sent.shows !== undefined && !text.includes(sent.shows)) log.wrong(wrongResponse(sent.kind));
    if (sent.kind === 'hit' && typeof headers['etag'] === 'string') tags.set(sent.path, headers['etag']);
  }

  /** @param {string} kind @param {number} dueMs */
  function leaveOut(kind, dueMs) {
    log.begin();
    log.end(kind, 'broken: not sent, too many are under way', dueMs / 1000, now() - dueMs);
  }

  /** Reads a large response more slowly than it arrives. */
  function readSlowly() {
    const dueMs = now();
    log.begin();
    turn += 1;
    const url = /** @type {string} */ (urls[turn % urls.length]);
    /** @param {string} outcome */
    const end = (outcome) => log.end(SLOW.kind, outcome, dueMs / 1000, now() - dueMs);
    const { headers } = make('pass-through');
    const sent = request(`${url}${SLOW_PATH}`, { headers, agent: false }, (response) => {
      response.on('data', () => {
        response.pause();
        setTimeout(() => response.resume(), SLOW_PAUSE_MS);
      });
      response.on('error', (error) => end(`broken: ${codeOf(error)}`));
      response.on('end', () => end(String(response.statusCode)));
    });
    sent.on('error', (error) => end(`broken: ${codeOf(error)}`));
    sent.end();
  }

  return {
    tags,
    /** More on top of the rate, by this share of it. @param {number} share */
    setSurge: (share) => {
      surge = share;
    },
    /** Seconds since the start: what faults and samples are timed by. */
    seconds: () => now() / 1000,
    /** Sends for so long; resolves when nothing is under way any more. @param {number} seconds */
    async run(seconds) {
      let [dueMs, slowAtMs] = [0, (WINDOW_SECONDS * 1000) / 2];
      while (dueMs < seconds * 1000) {
        for (const nowMs = now(); dueMs <= nowMs && dueMs < seconds * 1000; ) {
          const kind = surge > 0 && Math.random() < surge / (1 + surge) ? 'surge' : kindByShare();
          if (log.underWay() < MOST_UNDER_WAY) void send(make(kind), dueMs);
          else leaveOut(kind, dueMs);
          dueMs += 1000 / (rate * (1 + surge));
        }
        if (now() >= slowAtMs) {
          readSlowly();
          slowAtMs += SLOW_EVERY_MS;
        }
        await new Promise((resolve) => setTimeout(resolve, TICK_MS));
      }
      const deadline = now() + PATIENCE_MS;
      while (log.underWay() > 0 && now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50));
      // The last repeats begin a moment later.
      await new Promise((resolve) => setTimeout(resolve, REPEAT_AFTER_MS * 2));
    },
    close: async () => {
      await Promise.all(pools.flatMap(({ fast, upstream }) => [fast.destroy(), upstream.destroy()]));
    },
  };
}

/** @typedef {ReturnType<typeof createGenerator>} Generator */

/** Not AbortSignal.timeout: its timers do not keep the process alive, and thousands of them are slow. @param {number} ms */
function leaveAfter(ms) {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

/** @param {unknown} error */
function codeOf(error) {
  if (!(error instanceof Error)) return 'unknown';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}
