import { Agent, createServer, request } from 'node:http';
import { BILLING_KEY, type Config, READER_KEY, sha256 } from './gateway.ts';

const BODY = JSON.stringify({ data: Array.from({ length: 20 }, (_, id) => ({ id, name: `flow-${id}` })) });
// On a replica that has just joined there may be nothing at once.
const auth = { 'X-API-Key': BILLING_KEY, Prefer: 'wait=10' };
const LIST = '/api/v1/flows?page=1';
const RUNS = '/api/v1/flow-runs?page=1';

/** Answers everything at once, and counts. */
export async function countingUpstream() {
  let requests = 0;
  const server = createServer((incoming, outgoing) => {
    requests += 1;
    incoming.resume();
    outgoing.writeHead(200, {
      'Content-Type': 'application/json',
      'Content-Length': BODY.length,
      'X-RateLimit-Remaining': '8999999',
      ETag: '"fixed"',
    });
    outgoing.end(BODY);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    requests: () => requests,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const costsConfig = (origin: string, more: Config = {}): Config => ({
  listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0 } },
  accounts: {
    main: {
      quota: { limit: 9_000_000, ceiling: 8_000_000, burst: 8_000_000 },
      credentials: [{ id: 'only', apiKey: 'fake-patchworks-key' }],
    },
  },
  upstreams: { core: { origin }, start: { origin } },
  cache: {
    rules: [
      { match: 'GET /api/v1/flow-runs/**', store: false },
      { match: 'GET /api/v1/flows/**', ttl: '1h' },
    ],
  },
  limits: { requestsPerSecond: 10_000_000, failedAuth: 1_000_000 },
  tenants: {
    billing: {
      keys: [{ id: 'only', sha256: sha256(BILLING_KEY) }],
      quota: { rate: 8_000_000, burst: 8_000_000, maxWait: '0s' },
    },
    reader: { keys: [{ id: 'only', sha256: sha256(READER_KEY) }], quota: { rate: 1, burst: 1, maxWait: '0s' } },
  },
  ...more,
});

const passedOn = (): Call => ({ path: RUNS, headers: auth, status: 200 });
/** Uses up what `reader` has. */
export const firstCall = (): Call => ({ ...passedOn(), headers: { 'X-API-Key': READER_KEY, Prefer: 'wait=10' } });

export interface Call {
  readonly method?: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body?: string;
  readonly status: number;
}

let latestPage = 1_000;

/** A request of each kind, by its result. */
export const calls = {
  'a cached hit': () => ({ path: LIST, headers: auth, status: 200 }),
  'a hit that the caller has already (304)': () => ({
    ...{ path: LIST, headers: { ...auth, 'If-None-Match': '"fixed"' }, status: 304 },
  }),
  'a miss, stored for all replicas': () => ({ path: `/api/v1/flows?page=${++latestPage}`, headers: auth, status: 200 }),
  'a GET that is passed on': passedOn,
  'a POST with a body': () => ({
    ...{ method: 'POST', path: '/api/v1/flow-runs', body: '{"a":1}', status: 200 },
    headers: { ...auth, 'Content-Type': 'application/json' },
  }),
  'a tenant that has used up its quota': () => ({ path: RUNS, headers: { 'X-API-Key': READER_KEY }, status: 429 }),
  'an unknown key': () => ({ path: LIST, headers: { 'X-API-Key': 'pgk_unknown_fake-key' }, status: 401 }),
} satisfies Record<string, () => Call>;
export type CallName = keyof typeof calls;

/** Callers of a gateway, over kept connections; each call has to be answered as it says. */
export function callersOf(port: number) {
  const agent = new Agent({ keepAlive: true });
  const one = ({ method = 'GET', path, headers, body, status }: Call): Promise<void> =>
    new Promise((resolve, reject) => {
      const asked = request({ agent, port, host: '127.0.0.1', method, path, headers }, (answer) => {
        answer.resume();
        answer.once('end', () => {
          if (answer.statusCode === status) resolve();
          else reject(new Error(`${method} ${path}: ${answer.statusCode} in place of ${status}`));
        });
      });
      asked.once('error', reject);
      asked.end(body);
    });

  /** So many calls, so many at a time. */
  async function call(count: number, width: number, next: () => Call): Promise<void> {
    let begun = 0;
    const caller = async (): Promise<void> => {
      while (begun++ < count) await one(next());
    };
    await Promise.all(Array.from({ length: width }, caller));
  }
  return { call, [Symbol.dispose]: () => agent.destroy() };
}
