// Each request of a counted caller has a mark of its own, and the response must belong to that mark.
import { createHash } from 'node:crypto';
import { Agent, request } from 'node:http';
import { keyOf } from './configuration.mjs';

/** @typedef {import('./types.ts').Outcome} Outcome */
/** @typedef {{ account: import('./types.ts').Account, kind: import('./types.ts').Kind, mark: string, tenant: string }} Asked */

/** Longer than any wait that a gateway promises: a request without a response until then counts as `silent`. */
const PATIENCE_MS = 30_000;

/** @param {Asked} asked */
function written({ kind, mark }) {
  const collection = {
    read: 'flow-runs',
    cached: 'systems',
    write: 'data-pool',
    keyed: 'data-pool',
    again: 'data-pool',
  }[kind];
  const reading = kind === 'read' || kind === 'cached';
  return {
    method: reading ? 'GET' : 'POST',
    path: `/api/v1/${collection}?per_page=1&mark=${mark}`,
    body: reading ? '' : JSON.stringify({ name: mark }),
  };
}

/** @param {string} path @param {string} body @param {string} text */
function isAnswerTo(path, body, text) {
  try {
    const { echo } = JSON.parse(text);
    const sha256 = body === '' ? null : createHash('sha256').update(body).digest('hex');
    return echo.target === path && echo.bodySha256 === sha256;
  } catch {
    return false;
  }
}

/** @param {string} text @returns {string | null} */
function codeIn(text) {
  try {
    const { code } = JSON.parse(text);
    return typeof code === 'string' ? code : null;
  } catch {
    return null;
  }
}

/** Callers keep their connections, and try nothing twice. */
export const newAgent = () => new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

/**
 * @param {import('./types.ts').Gateway} gateway @param {Asked} asked @param {Agent} agent
 * @returns {Promise<Outcome>}
 */
export function ask({ index, port }, asked, agent) {
  const { account, kind, mark, tenant } = asked;
  const { method, path, body } = written(asked);
  const begunAt = performance.now();
  return new Promise((resolve) => {
    /** @param {Partial<Outcome> & Pick<Outcome, 'end'>} how */
    const over = (how) => {
      clearTimeout(patience);
      const none = { status: 0, code: null, retryAfter: null, replayed: false, mixed: false };
      resolve({ account, kind, mark, gateway: index, begunAt, endedAt: performance.now(), ...none, ...how });
    };
    const sent = request({
      port,
      host: '127.0.0.1',
      method,
      path,
      agent,
      headers: {
        'X-API-Key': keyOf(tenant),
        Accept: 'application/json',
        ...(body !== '' && { 'Content-Type': 'application/json', 'Content-Length': body.length }),
        ...((kind === 'keyed' || kind === 'again') && { 'Idempotency-Key': mark }),
      },
    });
    const patience = setTimeout(() => {
      over({ end: 'silent' });
      sent.destroy();
    }, PATIENCE_MS);
    sent.on('error', (/** @type {NodeJS.ErrnoException} */ { code }) =>
      over({ end: code === 'ECONNREFUSED' ? 'refused' : 'broken' }),
    );
    sent.on('response', (response) => {
      const { statusCode: status = 0, headers } = response;
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      response.on('error', () => over({ end: 'broken off', status }));
      response.on('end', () => {
        const code = headers['content-type']?.startsWith('application/problem+json') ? codeIn(text) : null;
        over({
          end: 'answered',
          status,
          code,
          retryAfter: headers['retry-after'] ?? null,
          replayed: headers['idempotency-replayed'] === 'true',
          mixed: status < 300 && !isAnswerTo(path, body, text),
        });
      });
    });
    sent.end(body);
  });
}
