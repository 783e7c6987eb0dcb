import { eventReader } from './frames.js';

/**
 * @typedef {object} Hearer
 * @property {(data: string, isFirst: boolean) => void} onFrame
 * @property {(why: 'lost' | 'full') => void} onLost until the next frame
 * @property {() => void} onRefused the token is missing or wrong: nothing more is tried
 */

/** A gateway that is there says something every two seconds. */
const SILENT_MS = 10_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Listens to the gateway, and again whenever it is lost. By fetch, which can send the token: an EventSource can not.
 *
 * @param {string | null} token
 * @param {Hearer} hearer
 * @returns {() => void} ends it
 */
export function listen(token, hearer) {
  let ended = false;
  let pauseMs = FIRST_PAUSE_MS;
  let abort = new AbortController();

  const hear = async () => {
    abort = new AbortController();
    let watchdog = setTimeout(() => abort.abort(), SILENT_MS);
    try {
      const response = await fetch('events', {
        headers: token === null ? {} : { Authorization: `Bearer ${token}` },
        cache: 'no-store',
        credentials: 'omit',
        signal: abort.signal,
      });
      if (response.status === 401) return 'refused';
      if (response.status === 503) return 'full';
      if (!response.ok || response.body === null) return 'lost';
      let isFirst = true;
      let restart = false;
      const read = eventReader((event, data) => {
        if (event === 'restart') restart = true;
        if (event !== 'message') return;
        hearer.onFrame(data, isFirst);
        isFirst = false;
        pauseMs = FIRST_PAUSE_MS;
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), SILENT_MS);
        read(piece.value);
      }
      return restart ? 'restart' : 'lost';
    } catch {
      return 'lost';
    } finally {
      clearTimeout(watchdog);
    }
  };
  const goOn = async () => {
    while (!ended) {
      const how = await hear();
      if (ended) return;
      if (how === 'refused') {
        hearer.onRefused();
        return;
      }
      if (how === 'restart') continue;
      hearer.onLost(how);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  };
  void goOn();
  return () => {
    ended = true;
    abort.abort();
  };
}
