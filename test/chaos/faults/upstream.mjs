// Faults of Patchworks, or of the network to it. The simulator injects faulty responses, so that its record says which requests were
// counted and carried out. The TCP proxy of each gateway injects faults of bytes and connections.
import { pause } from '../rig.mjs';
import { AUTHORITY, tlsFront } from '../tls.mjs';

/** @typedef {import('../types.ts').Fault} Fault */
/** @typedef {import('../types.ts').Fleet} Fleet */
/** @typedef {import('../../../src/simulator/faults.ts').Fault} Inflicted */

const ALL = '* /api/v1/**';
const ALONE = /** @type {const} */ (['alone']);
/** Once enough has failed, nothing is sent for a while. */
const CLOSED_OFF = 'breaker_open';

/** @param {Fleet} fleet @param {Inflicted} fault */
const inflict = ({ simulator }, fault) => simulator.fault({ match: ALL, fault, where: 'response' });
const heal = (/** @type {Fleet} */ { simulator }) => simulator.clearFaults();
/** @param {Fleet} fleet @param {(wire: import('../types.ts').Wire) => unknown} change */
const onWires = async ({ gateways }, change) => {
  for (const { toUpstream } of gateways) await change(toUpstream);
};
const healWires = (/** @type {Fleet} */ fleet) => onWires(fleet, (wire) => wire.heal());

/**
 * Each request is carried out before its response fails: a request that is sent twice would be done twice.
 * @param {string} name @param {string} about @param {Inflicted} fault @param {Partial<Fault>} more
 * @returns {Fault}
 */
const faultyResponse = (name, about, fault, more) => ({
  states: ALONE,
  name,
  about,
  may: ['upstream_protocol', CLOSED_OFF],
  inject: (fleet) => inflict(fleet, fault),
  lift: heal,
  ...more,
});
/** Headers go out with the first bytes of the body: where those are held back for a link in them, the caller sees neither. */
const BREAKS = { mayBreakOff: true, mayBreak: true };
const TIMES_OUT = { may: ['upstream_timeout', CLOSED_OFF], lastsMs: 6_000 };
/** The response to a keyed write is buffered before it goes out, so its caller is notified that it broke off. */
const BROKE_OFF = { may: ['upstream_timeout', 'upstream_protocol', CLOSED_OFF], ...BREAKS };
const responses = [
  faultyResponse('upstream-reset', 'connections are reset before the response', { kind: 'reset', when: 'before' }, {}),
  faultyResponse(
    'upstream-reset-in-body',
    'connections are reset in the middle of a body',
    { kind: 'reset', when: 'after' },
    BREAKS,
  ),
  faultyResponse('upstream-stalled-headers', 'no response ever comes', { kind: 'stall', when: 'before' }, TIMES_OUT),
  faultyResponse(
    'upstream-stalled-body',
    'responses stop in the middle of their body',
    { kind: 'stall', when: 'body' },
    { ...TIMES_OUT, ...BROKE_OFF },
  ),
  faultyResponse(
    'upstream-truncated',
    'responses end before their Content-Length',
    { kind: 'truncate', framing: 'length' },
    BREAKS,
  ),
  faultyResponse(
    'upstream-truncated-chunks',
    'responses end before their last chunk',
    { kind: 'truncate', framing: 'chunked' },
    BREAKS,
  ),
];

const STORM = [500, 502, 503, 504, 500, 503];
/** @type {Fault} */
const storm5xx = {
  states: ALONE,
  name: 'upstream-5xx',
  about: 'every request is carried out and answered 500, 502, 503 or 504',
  may: [...STORM.map((status) => `upstream ${status}`), CLOSED_OFF],
  inject: ({ simulator }) => {
    for (let round = 0; round < 1_000; round++)
      for (const status of STORM)
        simulator.fault({ match: ALL, fault: { kind: 'status', status }, where: 'response', times: 1 });
  },
  lift: heal,
};

/**
 * A cooldown applies to all replicas. While the storm lasts, the upstream receives the requests that were under way at the first 429,
 * and the first request of each account after each cooldown.
 * @param {string} name @param {string} about @param {() => string | null} retryAfter called each second
 * @returns {Fault}
 */
function storm429(name, about, retryAfter) {
  let throttled = 0;
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const headers = () => ({ 'Retry-After': retryAfter() });
  return {
    states: ALONE,
    name,
    about: `every request is answered 429, ${about}`,
    may: ['upstream 429', 'upstream_cooldown'],
    lastsMs: 6_000,
    inject: ({ simulator }) => {
      const arm = () => {
        simulator.clearFaults();
        simulator.fault({ match: ALL, fault: { kind: 'status', status: 429, headers: headers() } });
      };
      timer = setInterval(arm, 1_000);
      arm();
    },
    lift: ({ simulator }) => {
      clearInterval(timer);
      simulator.clearFaults();
      throttled = simulator.arrivals().filter(({ status }) => status === 429).length;
    },
    check: () => (throttled > MOST_THROTTLED ? [`${throttled} requests were sent to an upstream that says 429`] : []),
  };
}
/** Two accounts, three holds of 2 s, and those under way at the first: a few of each, where hundreds want to. */
const MOST_THROTTLED = 40;

/** @type {readonly Fault[]} */
const storms = [
  storm5xx,
  storm429('upstream-429', 'Retry-After: 2', () => '2'),
  storm429('upstream-429-date', 'Retry-After a date 3 s ahead', () => new Date(Date.now() + 3_000).toUTCString()),
  storm429('upstream-429-bare', 'without Retry-After', () => null),
];

/**
 * @param {string} name @param {string} about @param {(wire: import('../types.ts').Wire) => void} change
 * @param {Partial<Fault>} more
 * @returns {Fault}
 */
const onEachWire = (name, about, change, more) => ({
  states: ALONE,
  name,
  about,
  may: ['upstream_unreachable', 'upstream_protocol', CLOSED_OFF],
  inject: (fleet) => onWires(fleet, change),
  lift: healWires,
  ...more,
});
const wires = [
  onEachWire(
    'upstream-cut-in-headers',
    'connections are reset in the middle of the headers of a response',
    (wire) => wire.set({ cut: { afterBytes: 60, how: 'reset' } }, { direction: 'down' }),
    { may: ['upstream_protocol', CLOSED_OFF] },
  ),
  onEachWire(
    'upstream-drip',
    'responses come at 1,500 bytes a second',
    (wire) => wire.set({ bytesPerSecond: 1_500 }, { direction: 'down' }),
    { may: [] },
  ),
  onEachWire(
    'upstream-slow-way',
    'requests go out at 1,000 bytes a second, responses come 300 to 500 ms late',
    (wire) => {
      wire.set({ bytesPerSecond: 1_000 }, { direction: 'up' });
      wire.set({ delayMs: 300, jitterMs: 200 }, { direction: 'down' });
    },
    { may: [] },
  ),
  onEachWire('upstream-closed', 'connections are reset, and new ones are refused', (wire) => wire.refuse(), {}),
  onEachWire(
    'upstream-swallowed',
    'connections are made, and what is sent on them vanishes',
    (wire) => wire.set({ swallow: true }, { direction: 'up' }),
    { may: ['upstream_timeout', 'upstream_protocol', CLOSED_OFF], lastsMs: 6_000 },
  ),
  onEachWire('upstream-closed-to-one', 'one gateway alone has no way to upstream', () => {}, {
    inject: ({ gateways: [first] }) => first?.toUpstream.refuse(),
  }),
];

/** @param {string} name @param {string} about @param {import('../tls.mjs').Certificate | 'stalled'} how @returns {Fault} */
function tls(name, about, how) {
  /** @type {Awaited<ReturnType<typeof tlsFront>> | null} */
  let front = null;
  let arrived = 0;
  return {
    states: ALONE,
    name,
    about,
    may: ['upstream_unreachable', 'upstream_protocol', 'upstream_timeout', CLOSED_OFF],
    lastsMs: 6_000,
    setup: {
      env: () => ({ NODE_EXTRA_CA_CERTS: AUTHORITY }),
      front: async (port) => {
        front = await tlsFront(port);
        return front;
      },
      configure: (config) => onOrigins(config, (origin) => origin.replace('http:', 'https:')),
    },
    inject: async (fleet) => {
      if (how === 'stalled')
        await onWires(fleet, (wire) => wire.set({ stall: true }, { direction: 'down', connections: 'new' }));
      else front?.use(how);
      // Open connections have presented their certificate already.
      await onWires(fleet, (wire) => wire.cut('close'));
      await pause(ON_THE_WAY_MS);
      arrived = -fleet.simulator.arrivals().length;
    },
    lift: async (fleet) => {
      arrived += fleet.simulator.arrivals().length;
      front?.use('good');
      await healWires(fleet);
    },
    check: () => (arrived > 0 ? [`${arrived} requests were sent to a server that is not the upstream`] : []),
  };
}
/** Requests that were sent before. */
const ON_THE_WAY_MS = 300;

/** @param {Record<string, unknown>} config @param {(origin: string) => string} change */
export function onOrigins(config, change) {
  const upstreams = /** @type {Record<string, { origin: string }>} */ (config['upstreams']);
  for (const each of Object.values(upstreams)) each.origin = change(each.origin);
}

/** @type {readonly Fault[]} */
const certificates = [
  tls('upstream-tls-expired', 'its certificate has expired; then it has a good one again', 'expired'),
  tls('upstream-tls-name', 'its certificate is another host’s; then its own again', 'other'),
  tls('upstream-tls-stalled', 'the TLS handshake is never answered', 'stalled'),
];

/** @type {readonly Fault[]} */
export const upstreamFaults = [...responses, ...storms, ...wires, ...certificates];
