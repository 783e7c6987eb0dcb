import { createServer } from 'node:http';
import { join } from 'node:path';
import { layoutOf } from './package.mjs';

/** @typedef {(segments: string[], request: import('node:http').IncomingMessage, response: import('node:http').ServerResponse) => void} Handle */

/**
 * The suite's origin, on a free port of the loopback. Its own server.mjs does the same, but listens on all addresses,
 * leaves a file with its process id, and cannot be closed.
 * @param {string} folder of the suite
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function startOrigin(folder) {
  /** @type {(name: string) => Promise<Handle>} */
  const handler = async (name) => (await import(join(layoutOf(folder).server, `handle-${name}.mjs`))).default;
  /** @type {ReadonlyMap<string, Handle>} by first segment of the path */
  const handlers = new Map([
    ['config', await handler('config')],
    ['test', await handler('test')],
    ['state', await handler('state')],
  ]);

  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://origin');
    // After the folder of the test: see runTests.
    const [, , first = '', ...rest] = pathname.split('/');
    const handle = handlers.get(first);
    if (handle !== undefined) handle(rest, request, response);
    else response.writeHead(404).end();
  });
  await new Promise((/** @type {(value?: unknown) => void} */ resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('the origin has no port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
