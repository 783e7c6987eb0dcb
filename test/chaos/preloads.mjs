// Changes the system calls under a running process with libraries that are loaded before the C library (LD_PRELOAD). The code under
// test is therefore the code that ships.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { libraryPath } from '../../scripts/tools.mjs';
import { scratch } from './rig.mjs';

/**
 * A wall clock that can be stepped. gettimeofday and clock_gettime(CLOCK_REALTIME) answer with the step, as after an NTP client or a
 * person has set the clock; the monotonic clock, timers and the times of files go on as they do then. Read anew once a second.
 * @param {string} name
 */
export function clock(name) {
  const file = join(scratch, `clock-${name}`);
  const step = (/** @type {number} */ seconds) =>
    writeFileSync(file, `${seconds < 0 ? '-' : '+'}${Math.abs(seconds)}\n`);
  return {
    /** @param {number} seconds from the true time */
    step,
    env: () => {
      step(0);
      return {
        // Behind it libc: jemalloc, with which Redis is linked, asks for the time while libfaketime asks it for memory, for ever.
        LD_PRELOAD: `${libraryPath('faketime/libfaketimeMT.so.1')} ${libc()}`,
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_CACHE_DURATION: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        NO_FAKE_STAT: '1',
      };
    },
  };
}

/** The one that this process has. */
function libc() {
  const [line] = /\S+\/libc\.so\.6/.exec(readFileSync('/proc/self/maps', 'utf8')) ?? [];
  if (line === undefined) throw new Error('the clock can be stepped only with glibc');
  return line;
}

/** An /etc/hosts of its own: getaddrinfo looks here before it asks anybody. @param {string} host */
export function hosts(host) {
  const file = join(scratch, 'hosts');
  const lead = (/** @type {string} */ address) => writeFileSync(file, `${address} ${host}\n`);
  return {
    lead,
    env: () => {
      lead('127.0.0.1');
      return { LD_PRELOAD: libraryPath('libnss_wrapper.so'), NSS_WRAPPER_HOSTS: file };
    },
  };
}

/** SIGUSR2 stops the event loop for a while (block.mjs). */
export const BLOCKABLE = ['--import', fileURLToPath(new URL('./block.mjs', import.meta.url))];
