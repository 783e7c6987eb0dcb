import { eventReader } from './frames.js';

/** @typedef {import('../../status/document.ts').Holder} Holder */
/**
 * @typedef {object} Subscriber
 * @property {(data: string, isFirst: boolean) => void} onFrame
 * @property {(why: 'lost' | 'full') => void} onLost until the next frame
 * @property {(holder: Holder) => void} onHolder once for each connection
 * @property {(why: 'unauthorized' | 'forbidden') => void} onRefused the token is missing, wrong or of a too small role: nothing more is
 *   tried
 */

/** A gateway sends a frame every two seconds. */
const SILENT_MS = 10_000;
const FIRST_PAUSE_MS = 500;
const MAX_PAUSE_MS = 5_000;

/**
 * Subscribes to the gateway, and again whenever the connection is lost. By `fetch`: an EventSource cannot send the token.
 *
 * @param {string | null} token
 * @param {Subscriber} subscriber
 * @returns {() => void} ends the subscription
 */
export function subscribe(token, subscriber) {
  let ended = false;
  let pauseMs = FIRST_PAUSE_MS;
  let abort = new AbortController();

  const readFrames = async () => {
    abort = new AbortController();
    let watchdog = setTimeout(() => abort.abort(), SILENT_MS);
    try {
      const response = await fetch('events', {
        headers: token === null ? {} : { Authorization: `Bearer ${token}` },
        cache: 'no-store',
        credentials: 'omit',
        signal: abort.signal,
      });
      if (response.status === 401) return 'unauthorized';
      if (response.status === 403) return 'forbidden';
      if (response.status === 503) return 'full';
      if (!response.ok || response.body === null) return 'lost';
      let isFirst = true;
      let restart = false;
      const read = eventReader((event, data) => {
        if (event === 'restart') restart = true;
        if (event === 'holder') subscriber.onHolder(JSON.parse(data));
        if (event !== 'message') return;
        subscriber.onFrame(data, isFirst);
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
  const run = async () => {
    while (!ended) {
      const how = await readFrames();
      if (ended) return;
      if (how === 'unauthorized' || how === 'forbidden') {
        subscriber.onRefused(how);
        return;
      }
      if (how === 'restart') continue;
      subscriber.onLost(how);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
    }
  };
  void run();
  return () => {
    ended = true;
    abort.abort();
  };
}
