// Has a process collect its garbage, through the inspector: what is left then is what it keeps.
import { WebSocket } from 'undici';

const PATIENCE_MS = 15_000;

/** @param {string} inspector its address in the log of the process @returns {Promise<void>} */
export function collectGarbage(inspector) {
  const socket = new WebSocket(inspector);
  return new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
    const late = setTimeout(() => reject(new Error('garbage was not collected in time')), PATIENCE_MS);
    socket.addEventListener('open', () => socket.send('{"id":1,"method":"HeapProfiler.collectGarbage"}'));
    socket.addEventListener('error', () => reject(new Error('the inspector does not respond')));
    socket.addEventListener('message', ({ data }) => {
      const { id, error } = JSON.parse(String(data));
      if (id !== 1) return;
      clearTimeout(late);
      if (error === undefined) resolve();
      else reject(new Error(error.message));
    });
  }).finally(() => socket.close());
}
