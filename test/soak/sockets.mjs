// Finds the peers of the open connections of a process, from /proc.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * @typedef {object} Sockets
 * @property {number} descriptors all that is open, sockets or not
 * @property {number} callers connections that callers opened
 * @property {number} upstream connections to the upstream
 * @property {number} abandoned connections that the other side has closed, and this one has not
 */

const LISTENS = 0x0a;
const CLOSE_WAIT = 0x08;

/** @param {string} line of /proc/net/tcp */
function parsed(line) {
  const [, local = '', remote = '', state = '', , , , , , inode = ''] = line.trim().split(/\s+/);
  const port = (/** @type {string} */ address) => Number.parseInt(address.slice(address.indexOf(':') + 1), 16);
  return { local: port(local), remote: port(remote), state: Number.parseInt(state, 16), inode };
}

/** @param {number} pid @param {{ traffic: number, upstream: number }} ports @returns {Sockets} */
export function socketsOf(pid, { traffic, upstream }) {
  const found = { descriptors: 0, callers: 0, upstream: 0, abandoned: 0 };
  /** @type {Set<string>} */
  const own = new Set();
  for (const each of readdirSync(`/proc/${pid}/fd`)) {
    found.descriptors += 1;
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${each}`))?.[1];
      if (inode !== undefined) own.add(inode);
    } catch (error) {
      // Closed since it was listed.
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error;
    }
  }
  for (const line of readFileSync(`/proc/${pid}/net/tcp`, 'utf8').split('\n').slice(1, -1)) {
    const { local, remote, state, inode } = parsed(line);
    if (state === LISTENS || !own.has(inode)) continue;
    if (local === traffic) found.callers += 1;
    else if (remote === upstream) found.upstream += 1;
    if (state === CLOSE_WAIT) found.abandoned += 1;
  }
  return found;
}
