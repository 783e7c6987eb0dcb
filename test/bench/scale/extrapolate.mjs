// 1,000 accounts on a Redis Cluster: the sum, from measured rows and named assumptions. Pure, so that it can be checked.
import { table } from '../page.mjs';

/**
 * @typedef {object} Measured
 * @property {number} beatUs Redis CPU of a beat: accounts at rest, 1,000 accounts
 * @property {number} beatOwnUs CPU of a replica for a beat: the same row
 * @property {number} decisionUs Redis CPU of a decision and its ending: replicas, 8
 * @property {number} accountKib memory of an account: ceilings, 240
 * @property {number} answerBytes memory of an answer in Redis: the largest row
 */

/** Assumptions that are not measured here, with their reasons. */
export const ASSUMED = {
  accounts: 1_000,
  replicas: 10,
  /** Each at its ceiling all the time: the most there can be. */
  ceiling: 235,
  /** An eighth of the requests to the upstream. */
  writesPerSecond: 0.5,
  /** Responses stored for each account. */
  answers: 1_000,
  /** A replica asks this often what was dropped, each account by itself: src/adapters/redis/cache/invalidation-log.ts. */
  followsPerSecond: 1,
  /** As an EVALSHA that does little: 1 µs in the server, and some 9 µs of sockets around it. */
  followUs: 10,
  /** A message to one listener, or from one node to another: a write to a socket. */
  deliveryUs: 5,
  /** Twice a second: src/adapters/redis/quota/membership.ts. */
  beatsPerSecond: 2,
  masters: 6,
  /** Load of the one core on which a node runs scripts: above that, latency grows. */
  most: 0.6,
};

/** @param {Measured} measured @param {typeof ASSUMED} assumed */
export function extrapolate(measured, assumed = ASSUMED) {
  const { accounts, replicas, ceiling, writesPerSecond, masters } = assumed;
  const beats = accounts * replicas * assumed.beatsPerSecond;
  const follows = accounts * replicas * assumed.followsPerSecond;
  const decisions = (accounts * ceiling) / 60;
  // Each write is published to all nodes. Each replica acknowledges it, and all nodes receive that too.
  const messages = accounts * writesPerSecond * (1 + replicas);
  const deliveries = messages * (replicas + masters - 1);
  const cores = {
    beats: (beats * measured.beatUs) / 1e6,
    follows: (follows * assumed.followUs) / 1e6,
    decisions: (decisions * measured.decisionUs) / 1e6,
    messages: (deliveries * assumed.deliveryUs) / 1e6,
  };
  const all = Object.values(cores).reduce((sum, each) => sum + each, 0);
  return {
    ...{ beats, follows, decisions, messages, deliveries, cores, all },
    mastersNeeded: Math.ceil(all / assumed.most),
    perMaster: all / masters,
    replicaCores: (accounts * assumed.beatsPerSecond * measured.beatOwnUs) / 1e6,
    connections: replicas * (masters + 1),
    memoryMb: (accounts * measured.accountKib) / 1024 + (accounts * assumed.answers * measured.answerBytes) / 1024 ** 2,
    /** Accounts times replicas that one master has room for, with nothing else to do. */
    pairsPerMaster: Math.floor((assumed.most * 1e6) / (assumed.beatsPerSecond * measured.beatUs + assumed.followUs)),
  };
}

/** @param {Measured} measured */
export function extrapolation(measured) {
  const a = ASSUMED;
  const e = extrapolate(measured);
  const n = (/** @type {number} */ value) => Math.round(value).toLocaleString('en-GB');
  const core = (/** @type {number} */ value) => value.toFixed(2);
  const us = (/** @type {number} */ value) => value.toFixed(0);
  return table([
    ['', 'sum', 'a second', 'cores of Redis, all masters together', 'from'],
    [
      'heartbeats',
      `${n(a.accounts)} × ${a.replicas} × ${a.beatsPerSecond}, ${us(measured.beatUs)} µs each`,
      n(e.beats),
      core(e.cores.beats),
      'accounts at rest, 1,000 accounts',
    ],
    [
      'what was dropped?',
      `${n(a.accounts)} × ${a.replicas} × ${a.followsPerSecond}, ${a.followUs} µs each`,
      n(e.follows),
      core(e.cores.follows),
      'assumed: followUs',
    ],
    [
      'decisions',
      `${n(a.accounts)} × ${a.ceiling} / 60, ${us(measured.decisionUs)} µs each, endings included`,
      n(e.decisions),
      core(e.cores.decisions),
      'replicas, 8',
    ],
    [
      'messages about writes',
      `${n(a.accounts)} × ${a.writesPerSecond} × (1 + ${a.replicas}), each to ${a.replicas} listeners and ${a.masters - 1} nodes, ${a.deliveryUs} µs each`,
      n(e.deliveries),
      core(e.cores.messages),
      'assumed: writesPerSecond, deliveryUs',
    ],
    [
      '**together**',
      '',
      '',
      `**${core(e.all)}**`,
      `${core(e.perMaster)} on each of ${a.masters} masters; ${e.mastersNeeded} are needed to stay below ${a.most}`,
    ],
    [
      'connections',
      `${a.replicas} × (${a.masters} + 1 that listens)`,
      n(e.connections),
      '',
      'one a node, one for messages',
    ],
    [
      'memory',
      `${n(a.accounts)} × ${measured.accountKib.toFixed(1)} KiB + ${n(a.accounts)} × ${n(a.answers)} responses × ${n(measured.answerBytes)} bytes`,
      `${n(e.memoryMb)} MB`,
      '',
      'ceilings, 240; responses in Redis',
    ],
    [
      'a replica, at rest',
      `${n(a.accounts)} × ${a.beatsPerSecond}, ${us(measured.beatOwnUs)} µs of its own each`,
      n(a.accounts * a.beatsPerSecond),
      `${core(e.replicaCores)} of its own core`,
      'accounts at rest, 1,000 accounts',
    ],
    [
      'room of one master',
      `${a.most} / (${a.beatsPerSecond} × ${us(measured.beatUs)} µs + ${a.followUs} µs)`,
      `${n(e.pairsPerMaster)} accounts × replicas`,
      '',
      '',
    ],
  ]);
}
