// Sends a request and reads the whole response, for probes.
import { request } from 'node:http';

/**
 * @typedef {{ method: string, path: string, headers: Record<string, string>, body: string | null }} Question
 * @typedef {{ status: number, rawHeaders: string[], headers: import('node:http').IncomingHttpHeaders, body: Buffer }} Answer
 */

/**
 * @param {number} port @param {Question} question @param {number} [timeoutMs]
 * @returns {Promise<Answer>}
 */
export function ask(port, { method, path, headers, body }, timeoutMs = 10_000) {
  return new Promise((resolve, reject) => {
    const length = body === null ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    // The connection may stay open as under load, which shows in the headers of the response. It still ends with the response.
    const usual = { ...headers, ...length, connection: 'keep-alive' };
    const asked = request(
      { host: '127.0.0.1', port, method, path, headers: usual, agent: false, timeout: timeoutMs },
      (incoming) => {
        /** @type {Buffer[]} */
        const chunks = [];
        // Taken now: at the end Node has let go of it.
        const { socket } = incoming;
        incoming.on('data', (chunk) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => {
          socket.destroy();
          resolve({
            status: incoming.statusCode ?? 0,
            rawHeaders: incoming.rawHeaders,
            headers: incoming.headers,
            body: Buffer.concat(chunks),
          });
        });
      },
    );
    asked.on('timeout', () => asked.destroy(new Error(`no response in ${timeoutMs} ms`)));
    asked.on('error', reject);
    asked.end(body ?? undefined);
  });
}

/**
 * @template T
 * @param {() => Promise<T | null>} look null: not yet
 * @param {{ withinMs: number, everyMs: number, what: () => string }} options
 * @returns {Promise<T>}
 */
export async function until(look, { withinMs, everyMs, what }) {
  const end = performance.now() + withinMs;
  for (;;) {
    const found = await look().catch(() => null);
    if (found !== null) return found;
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
