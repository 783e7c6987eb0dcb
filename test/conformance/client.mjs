import { request } from 'node:http';

/** A gateway that does not answer must not stop the run: the test fails, and the next begins. */
const TIMEOUT_MS = 15_000;

/**
 * The part of `fetch` that the suite's client needs. It adds no header, has no cache, follows no redirects and decompresses
 * nothing. The tests define every sent line; only the tenant's key is added.
 * @param {string} key
 */
export function plainFetch(key) {
  /**
   * @param {string} url
   * @param {{ method?: string, headers?: [string, string | number][], body?: string }} [init]
   */
  return function fetchPlainly(url, { method = 'GET', headers = [], body } = {}) {
    const { host, hostname, port, pathname, search } = new URL(url);
    // A list, not an object: two lines of one name stay two lines, in their order.
    const lines = ['Host', host, ...headers.flatMap(([name, value]) => [name, String(value)]), 'X-API-Key', key];
    if (body !== undefined) lines.push('Content-Length', String(Buffer.byteLength(body)));
    return new Promise((/** @type {(response: Answered) => void} */ resolve, reject) => {
      const sent = request(
        {
          hostname,
          port,
          path: pathname + search,
          method,
          // A list is taken as it is; the types know it only since a later version.
          headers: /** @type {any} */ (lines),
          agent: false,
          signal: AbortSignal.timeout(TIMEOUT_MS),
        },
        (response) => {
          /** @type {Buffer[]} */
          const chunks = [];
          response.on('data', (chunk) => chunks.push(chunk));
          response.on('end', () => resolve(answered(response, Buffer.concat(chunks).toString())));
          response.on('error', reject);
        },
      );
      sent.on('error', reject);
      sent.end(body);
    });
  };
}

/** @typedef {{ status: number, statusText: string, headers: Headers, text: () => Promise<string> }} Answered */

/** @param {import('node:http').IncomingMessage} response @param {string} body @returns {Answered} */
function answered(response, body) {
  const headers = new Headers();
  for (let i = 0; i < response.rawHeaders.length; i += 2) {
    headers.append(response.rawHeaders[i] ?? '', response.rawHeaders[i + 1] ?? '');
  }
  return {
    status: response.statusCode ?? 0,
    statusText: response.statusMessage ?? '',
    headers,
    text: async () => body,
  };
}
