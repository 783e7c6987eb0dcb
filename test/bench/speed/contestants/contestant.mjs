// The type of a contestant. Each is started anew for each kind of work.

/**
 * @typedef {{
 *   rig: import('../rig.mjs').Rig,
 *   upstream: import('../upstream.mjs').Upstream,
 *   work: import('../work.mjs').Work,
 *   folder: string,
 *   sample: import('../ask.mjs').Answer | null,
 * }} Stage `sample` is what the gateway answered: raw Node and Hono answer the same bytes.
 *
 * @typedef {import('../rig.mjs').Running & {
 *   port: number,
 *   ready: () => Promise<true | null>,
 *   pretends?: () => Promise<string | null>,
 * }} Started `ready` says true when it would be sent traffic; `pretends` says why it is not what its name says, if it is not.
 *
 * @typedef {{
 *   id: string,
 *   name: string,
 *   does: string,
 *   kinds: readonly import('../work.mjs').Kind[],
 *   holdsCredential: boolean,
 *   start: (stage: Stage) => Promise<Started>,
 * }} Contestant `holdsCredential`: the upstream sees the account's key in place of the caller's.
 */

import { connect } from 'node:net';

/** Ready is who accepts: these have nothing else to say about it. @param {number} port @returns {Promise<true | null>} */
export const accepts = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const say = (/** @type {true | null} */ answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => say(true));
    socket.once('error', () => say(null));
  });
