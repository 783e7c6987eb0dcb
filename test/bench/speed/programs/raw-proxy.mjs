// The least that a proxy in Node can do: node:http in front, undici's own dispatch behind, headers as they come, bodies
// streamed both ways with back-pressure. No key, no quota, no timeouts. `node raw-proxy.mjs PORT ORIGIN`
import { createServer } from 'node:http';
import { Pool } from 'undici';

const [port, origin = ''] = process.argv.slice(2);
const pool = new Pool(origin, { connections: 1_024, pipelining: 1, headersTimeout: 0, bodyTimeout: 0 });
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'transfer-encoding',
  'host',
  'content-length',
  'upgrade',
  'te',
]);

/** @param {readonly (string | Buffer)[]} raw @param {boolean} withLength */
function passing(raw, withLength) {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = String(raw[i]);
    const lower = name.toLowerCase();
    if (HOP_BY_HOP.has(lower) && !(withLength && lower === 'content-length')) continue;
    list.push(name, String(raw[i + 1]));
  }
  return list;
}

createServer({ keepAliveTimeout: 75_000 }, (incoming, outgoing) => {
  const { method = 'GET', url = '/' } = incoming;
  const hasBody = method !== 'GET' && method !== 'HEAD';
  pool.dispatch(
    {
      path: url,
      method: /** @type {import('undici').Dispatcher.HttpMethod} */ (method),
      headers: passing(incoming.rawHeaders, true),
      body: hasBody ? incoming : null,
    },
    {
      onRequestStart() {},
      onResponseStart(controller, status) {
        const raw = Array.isArray(controller.rawHeaders) ? controller.rawHeaders : [];
        outgoing.writeHead(status, passing(raw, true));
        outgoing.on('close', () => !outgoing.writableFinished && controller.abort(new Error('the caller left')));
      },
      onResponseData(controller, chunk) {
        if (outgoing.write(chunk)) return;
        controller.pause();
        outgoing.once('drain', () => controller.resume());
      },
      onResponseEnd: () => void outgoing.end(),
      onResponseError() {
        if (outgoing.headersSent) outgoing.destroy();
        else outgoing.writeHead(502).end();
      },
    },
  );
}).listen(Number(port), '127.0.0.1', 4_096);
