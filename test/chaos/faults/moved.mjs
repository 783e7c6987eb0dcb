// The name of upstream leads to another address. Two wires of each gateway, on 127.0.0.1 and 127.0.0.2 and the same port, both to the
// simulator; what the name leads to is said by a file of hosts that getaddrinfo reads.
import { hosts } from '../preloads.mjs';
import { pause } from '../rig.mjs';
import { wire } from '../wire.mjs';
import { onOrigins } from './upstream.mjs';

/** @typedef {import('../types.ts').Fault} Fault */
/** @typedef {import('../types.ts').Fleet} Fleet */

const HOST = 'core.upstream.test';
const ALONE = /** @type {const} */ (['alone']);
/** No connection is used for longer than a minute (src/adapters/undici/transport.ts); what it carries then is finished. */
const FOLLOWED_MS = 60_000 + 4_000;
const WATCHED_MS = 6_000;

/** @param {Omit<Fault, 'inject' | 'setup' | 'states'>} fault @param {(fleet: Fleet) => Promise<void>} leave what becomes of the old address */
function moved(fault, leave) {
  const names = hosts(HOST);
  /** @type {import('../types.ts').Wire[]} */
  let there = [];
  let stillAsked = 0;
  /** @type {Fault} */
  const complete = {
    ...fault,
    states: ALONE,
    setup: {
      env: () => names.env(),
      configure: (config) => onOrigins(config, (origin) => origin.replace('127.0.0.1', HOST)),
    },
    inject: async (fleet) => {
      const { gateways, simulator } = fleet;
      there = await Promise.all(
        gateways.map(({ toUpstream: { port } }) => wire(simulator.port, { host: '127.0.0.2', port })),
      );
      names.lead('127.0.0.2');
      await leave(fleet);
      const before = sent(fleet);
      await pause(WATCHED_MS);
      stillAsked = sent(fleet) - before;
      // Every connection to the upstream is closed at the end of a run.
      for (const [index, { toUpstream }] of gateways.entries()) {
        const { cut } = toUpstream;
        toUpstream.cut = (...how) => {
          cut(...how);
          there[index]?.cut(...how);
        };
      }
    },
    check: async () => {
      const unused = there.filter((each) => each.counts().bytes.up === 0).length;
      for (const each of there) await each.close();
      return [
        ...(stillAsked > 0 ? [`the old address was still sent ${stillAsked} bytes`] : []),
        ...(unused > 0 ? [`${unused} gateways did not follow`] : []),
      ];
    },
  };
  return complete;
}

/** To the old address. @param {Fleet} fleet */
const sent = ({ gateways }) => gateways.reduce((sum, { toUpstream }) => sum + toUpstream.counts().bytes.up, 0);

/** @type {readonly Fault[]} */
export const movedFaults = [
  moved(
    {
      name: 'upstream-moved',
      about: 'its name leads to another address, and the old one is closed',
      lastsMs: 0,
      // Requests on the old connections fail.
      may: ['upstream_protocol', 'upstream_unreachable'],
    },
    async ({ gateways }) => gateways.forEach(({ toUpstream }) => void toUpstream.refuse()),
  ),
  moved(
    {
      name: 'upstream-moved-quietly',
      about: 'its name leads to another address, and the old one goes on responding on connections in use',
      lastsMs: 0,
      may: [],
    },
    () => pause(FOLLOWED_MS).then(() => {}),
  ),
];
