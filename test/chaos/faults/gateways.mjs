// Faults of a gateway itself, or of its machine.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { keyOf } from '../configuration.mjs';
import { BLOCKABLE, clock } from '../preloads.mjs';

/** @typedef {import('../types.ts').Fault} Fault */
/** @typedef {import('../types.ts').Fleet} Fleet */
/** @typedef {import('../types.ts').Gateway} Gateway */

const ALONE = /** @type {const} */ (['alone']);
/** A gateway that was away for a while has lost its place among the replicas, and waits for its share. */
const BACK = ['state_unavailable'];
const HOUR_S = 3_600;

/** @param {Fleet} fleet @returns {Gateway} */
const victim = ({ gateways }) => /** @type {Gateway} */ (gateways[0]);

/** @type {readonly Fault[]} */
const processes = [
  {
    states: ALONE,
    name: 'gateway-killed',
    about: 'one gateway is killed (SIGKILL), and started again',
    may: BACK,
    inject: (fleet) => victim(fleet).kill(),
    lift: (fleet) => victim(fleet).start(),
  },
  {
    states: ALONE,
    name: 'gateway-paused',
    about: 'one gateway is stopped (SIGSTOP) and goes on (SIGCONT)',
    // Upstream timed out, and Redis went on, while it was away.
    may: [...BACK, 'upstream_timeout', 'upstream_protocol'],
    longMs: 20_000,
    inject: (fleet) => victim(fleet).stop(),
    lift: (fleet) => victim(fleet).resume(),
  },
];

/** @param {string} name @param {number} blockMs @returns {Fault} */
const blocked = (name, blockMs) => ({
  states: ALONE,
  name,
  about: `the event loop of one gateway stands still for ${blockMs / 1_000} s`,
  may: [...BACK, 'upstream_timeout', 'upstream_protocol'],
  lastsMs: blockMs,
  setup: { nodeArgs: BLOCKABLE, env: () => ({ BLOCK_MS: String(blockMs) }) },
  inject: (fleet) => void victim(fleet).child().kill('SIGUSR2'),
});

/** @param {string} name @param {string} about @param {number} seconds @param {readonly number[]} which @returns {Fault} */
function stepped(name, about, seconds, which) {
  const clocks = [0, 1, 2].map((index) => clock(`gateway-${index}`));
  const step = (/** @type {number} */ by) => {
    for (const index of which) clocks[index]?.step(by);
  };
  let leapt = 0;
  return {
    states: ALONE,
    name,
    about,
    may: [],
    setup: { env: (index) => clocks[index]?.env() ?? {} },
    inject: () => step(seconds),
    lift: async (fleet) => {
      const { headers } = await fetch(`${victim(fleet).adminUrl}/livez`, { headers: { Connection: 'close' } });
      leapt = (Date.parse(headers.get('date') ?? '') - Date.now()) / 1_000;
      step(0);
    },
    check: () => notLeapt(leapt, seconds),
  };
}

/** A clock that did not leap proves nothing. @param {number} leapt @param {number} asked seconds */
const notLeapt = (leapt, asked) =>
  Math.abs(leapt - asked) < 60 ? [] : [`no proof: the clock leapt by ${Math.round(leapt)} s and not by ${asked} s`];

/** @param {string} name @param {string} about @param {number} seconds @returns {Fault} */
function redisStepped(name, about, seconds) {
  const of = clock('redis');
  let leapt = 0;
  return {
    states: ALONE,
    name,
    about,
    // The time of all that is in Redis: what it held has run out, or is from the future.
    may: BACK,
    setup: { redisEnv: () => of.env() },
    inject: () => of.step(seconds),
    lift: async ({ redis }) => {
      const [now] = await (await redis.holder()).client().time();
      leapt = Number(now) - Date.now() / 1_000;
      of.step(0);
    },
    check: () => notLeapt(leapt, seconds),
  };
}

/** @type {readonly Fault[]} */
const clocks = [
  stepped('gateway-clock-ahead', 'the wall clock of one gateway leaps an hour ahead, and back', HOUR_S, [0]),
  stepped('gateway-clock-back', 'the wall clock of one gateway leaps an hour back, and ahead', -HOUR_S, [0]),
  redisStepped('redis-clock-ahead', 'the wall clock of Redis leaps an hour ahead, and back', HOUR_S),
  redisStepped('redis-clock-back', 'the wall clock of Redis leaps an hour back, and ahead', -HOUR_S),
];

/** @type {readonly Fault[]} */
const logs = [
  {
    states: ALONE,
    name: 'gateway-log-full',
    about: 'the disk for the logs of all gateways is full (/dev/full)',
    may: [],
    lastsMs: 2_000,
    setup: { stdoutIsFull: true },
    inject: () => {},
  },
  {
    states: ALONE,
    name: 'gateway-log-unread',
    about: 'the logs of the gateways are not read: the pipes are full',
    may: [],
    inject: ({ gateways }) => gateways.forEach((each) => void each.child().stdout?.pause()),
    lift: ({ gateways }) => gateways.forEach((each) => void each.child().stdout?.resume()),
  },
];

/** Descriptors that are left to a gateway when its limit falls, and connections that then want one. */
const FILES_LEFT = 20;
const CONNECTIONS = 100;

/** @returns {Fault} */
function fewFiles() {
  /** @type {import('node:net').Socket[]} */
  let idle = [];
  const limit = (/** @type {number} */ pid, /** @type {number} */ files) =>
    execFileSync('prlimit', ['--pid', String(pid), `--nofile=${files}:`]);
  let before = 0;
  return {
    states: ALONE,
    name: 'gateway-no-files',
    about: `one gateway may open no more files: its limit is lowered to ${FILES_LEFT} more than it has, and ${CONNECTIONS} callers connect`,
    // No connection to upstream or Redis; what was waiting for one goes on later or not at all.
    may: [...BACK, 'upstream_unreachable', 'upstream_timeout', 'upstream_protocol', 'breaker_open'],
    mayBreak: true,
    // The files of the configuration are looked at now and then, and cannot be read either.
    logs: /^the new configuration is refused/,
    inject: (fleet) => {
      const pid = victim(fleet).child().pid ?? 0;
      before = softLimit(pid);
      limit(pid, readdirSync(`/proc/${pid}/fd`).length + FILES_LEFT);
      idle = Array.from({ length: CONNECTIONS }, () => connect(victim(fleet).port, '127.0.0.1').on('error', () => {}));
      // The connections that it kept are of no use: it must open new ones.
      victim(fleet).toUpstream.cut('close');
      victim(fleet).toRedis.cut('reset');
    },
    lift: (fleet) => {
      for (const socket of idle) socket.destroy();
      limit(victim(fleet).child().pid ?? 0, before);
    },
  };
}

/** @param {number} pid */
function softLimit(pid) {
  const shown = execFileSync('prlimit', ['--pid', String(pid), '--nofile', '--output=SOFT', '--noheadings']);
  return Number(String(shown).trim());
}

const HEAP_MIB = 64;
const LARGE_BYTES = 8 * 1024 * 1024;
const UPLOADS = 24;

/** @returns {Fault} */
function littleMemory() {
  /** @type {Promise<unknown>[]} */
  let uploads = [];
  let cutOff = 0;
  return {
    states: ALONE,
    name: 'gateway-little-memory',
    about: `with a heap of ${HEAP_MIB} MiB one gateway is sent ${UPLOADS} bodies of 8 MiB at once, half with an Idempotency-Key`,
    // While the gateway is busy with them, replies of Redis arrive later than the timeout of a command.
    may: [...BACK, 'upstream_timeout'],
    setup: { nodeArgs: [`--max-old-space-size=${HEAP_MIB}`] },
    inject: (fleet) => {
      uploads = Array.from({ length: UPLOADS }, (_, index) => upload(victim(fleet), index));
    },
    lift: async () => {
      const statuses = await Promise.all(uploads);
      cutOff = statuses.filter((status) => status === 0).length;
    },
    check: () => (cutOff > 0 ? [`${cutOff} of ${UPLOADS} large bodies were cut off without a response`] : []),
  };
}

/** @param {Gateway} gateway @param {number} index @returns {Promise<number>} status; 0 without a response */
function upload({ port }, index) {
  return new Promise((resolve) => {
    const headers = {
      'X-API-Key': keyOf('a'),
      'Content-Type': 'application/json',
      ...(index % 2 === 0 && { 'Idempotency-Key': `large-${index}` }),
    };
    const path = `/api/v1/data-pool?mark=large${index}`;
    const sent = request({ host: '127.0.0.1', port, method: 'POST', path, headers }, (response) => {
      response.resume().on('error', () => {});
      response.on('close', () => resolve(response.statusCode ?? 0));
    });
    sent.on('error', () => resolve(0));
    sent.end(`{"name":"${'x'.repeat(LARGE_BYTES)}"}`);
  });
}

/** @type {readonly Fault[]} */
export const gatewayFaults = [
  ...processes,
  blocked('gateway-blocked', 2_000),
  blocked('gateway-blocked-long', 10_000),
  ...clocks,
  ...logs,
  fewFiles(),
  littleMemory(),
];
