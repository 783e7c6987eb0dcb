import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Simulator } from './api.ts';
import type { FaultRule } from './faults.ts';

type Body = Record<string, unknown>;

const LARGEST_ORDER = 1024 * 1024;

/**
 * `/_simulator/…`: what a test, or a person with curl, can ask and change. Never counted, never recorded.
 *
 *     GET    /_simulator/arrivals      what has arrived, with times and headers; ?last=N for the latest only
 *     DELETE /_simulator/arrivals      forget it
 *     GET    /_simulator/stats         counts, and the greatest number within any 60 s
 *     GET    /_simulator/switches      how it behaves
 *     PATCH  /_simulator/switches      {"limit": 100}
 *     POST   /_simulator/faults        {"match": "GET /api/v1/**", "times": 1, "fault": {"kind": "reset", "when": "before"}}
 *     DELETE /_simulator/faults        no more of them
 *     POST   /_simulator/foreign       {"count": 50}: others use the account
 *     POST   /_simulator/keys          {"id": "primary", "key": "…"}: works from now on
 *     POST   /_simulator/revoke        {"key": "primary"}, its id, or {"token": "…"}: 401 from now on
 *     POST   /_simulator/expire        {} every login token is worthless, {"user": "…"} those of one user
 *     POST   /_simulator/logins        {"refused": true}
 *
 * `"account"` may be added where keys and counters are meant; without it the first account, or for revoke all.
 */
const actions: Readonly<Record<string, (simulator: Simulator, body: Body, query: URLSearchParams) => unknown>> = {
  'GET arrivals': (simulator, _body, query) => {
    const last = query.get('last');
    return last === null ? simulator.arrivals() : simulator.arrivals().slice(-wholeOf(Number(last), 'last', 1));
  },
  'DELETE arrivals': (simulator) => simulator.reset(),
  'GET stats': (simulator) => simulator.stats(),
  'GET switches': (simulator) => simulator.switches,
  'PATCH switches': (simulator, body) => {
    simulator.set(body);
    return simulator.switches;
  },
  'POST faults': (simulator, body) => simulator.fault(body as unknown as FaultRule),
  'DELETE faults': (simulator) => simulator.clearFaults(),
  'POST foreign': (simulator, body) => ({
    used: simulator.useForeign(wholeOf(body['count'] ?? 1, 'count', 0), textOf(body['account'], 'account')),
  }),
  'POST keys': (simulator, body) => {
    const [id, key] = [textOf(body['id'], 'id'), textOf(body['key'], 'key')];
    if (id === undefined || key === undefined) throw new TypeError('id and key are needed');
    const account = textOf(body['account'], 'account');
    if (account !== undefined) simulator.dataOf(account);
    simulator.credentials.restoreKey(id, key, account);
  },
  'POST revoke': (simulator, { key, token, account }) => {
    const { credentials } = simulator;
    const revoked =
      token === undefined
        ? credentials.revokeKey(textOf(key, 'key') ?? '', textOf(account, 'account'))
        : credentials.revokeToken(textOf(token, 'token') ?? '');
    if (!revoked) throw new TypeError('there is no such key or token');
  },
  'POST expire': (simulator, { user }) => simulator.credentials.expireTokens(textOf(user, 'user')),
  'POST logins': (simulator, { refused }) => {
    if (typeof refused !== 'boolean') throw new TypeError('refused must be true or false');
    simulator.credentials.refuseLogins(refused);
  },
};

export function handleControl(incoming: IncomingMessage, outgoing: ServerResponse, simulator: Simulator): void {
  const [name = '', query = ''] = (incoming.url ?? '').slice('/_simulator/'.length).split('?');
  const action = actions[`${incoming.method} ${name}`];
  const answer = (status: number, value: unknown): void => {
    const body = `${JSON.stringify(value)}\n`;
    outgoing.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
    outgoing.end(body);
  };
  readOrder(incoming, (text) => {
    if (action === undefined) {
      answer(404, { message: `known: ${Object.keys(actions).join(', ')}` });
      return;
    }
    try {
      answer(200, action(simulator, orderOf(text), new URLSearchParams(query)) ?? { ok: true });
    } catch (error) {
      answer(400, { message: error instanceof Error ? error.message : 'malformed' });
    }
  });
}

function readOrder(incoming: IncomingMessage, done: (text: string) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  incoming.on('error', () => {});
  incoming.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= LARGEST_ORDER) chunks.push(chunk);
    else incoming.destroy();
  });
  incoming.on('end', () => done(Buffer.concat(chunks).toString('utf8')));
}

function orderOf(text: string): Body {
  if (text === '') return {};
  const parsed: unknown = JSON.parse(text);
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw new TypeError('must be an object');
  return parsed as Body;
}

function wholeOf(value: unknown, name: string, least: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) {
    throw new TypeError(`${name} must be a whole number from ${least}`);
  }
  return value;
}

function textOf(value: unknown, name: string): string | undefined {
  if (value !== undefined && typeof value !== 'string') throw new TypeError(`${name} must be a string`);
  return value;
}
