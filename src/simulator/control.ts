import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Credentials } from './credentials.ts';
import type { Dataset } from './dataset.ts';
import type { FaultRule } from './faults.ts';
import type { TokenIssuer } from './issuer.ts';
import type { OperationsUsed } from './operations.ts';
import type { Arrival, Stats } from './record.ts';
import type { Switches } from './switches.ts';
import type { Terms, Tier } from './terms.ts';
import type { TriggerHosts } from './trigger-hosts.ts';

/** The terms of an account that are in force, and its use. */
export interface AccountStatus {
  readonly tier: Tier;
  /** Requests in a window. */
  readonly limit: number;
  readonly operations: OperationsUsed & { readonly allowed: number };
}

/** A running simulator, and what tests can ask and change. */
export interface Simulator {
  readonly url: string;
  readonly port: number;
  /** URLs of the hosts of webhooks and callbacks; null: there are none. */
  readonly triggers: TriggerHosts['urls'] | null;
  /** They may be changed while it runs; {@link Simulator.set} validates the values. */
  readonly switches: Switches;
  readonly credentials: Credentials;
  /** Issues tokens to callers of the gateway. */
  readonly issuer: TokenIssuer;
  /** The data of the first account. */
  readonly data: Dataset;
  /** Throws a TypeError for an unknown account. */
  dataOf(account: string): Dataset;
  /** Changes switches. Throws a TypeError that names a wrong value, and then changes nothing. */
  set(switches: Partial<Switches>): void;
  /** The latest, oldest first. */
  arrivals(): readonly Arrival[];
  stats(): Stats;
  /** Forgets the arrivals; the window of the throttle and the operations stay. */
  reset(): void;
  fault(rule: FaultRule): void;
  clearFaults(): void;
  /** Others send this many requests on the account at once. Returns how many the throttle accepted. */
  useExternally(count: number, account?: string): number;
  accounts(): Readonly<Record<string, AccountStatus>>;
  /**
   * Changes terms from the next request on; the open window of the throttle and the count of operations stay. Throws a
   * TypeError that names a wrong term, and then changes nothing.
   */
  setAccount(changed: Terms, account?: string): void;
  /** Others use this many operations of the month. */
  useOperations(count: number, account?: string): void;
  /** Ends all connections and timers. */
  close(): Promise<void>;
}

type Body = Record<string, unknown>;

const MAX_BODY_BYTES = 1024 * 1024;

/**
 * `/_simulator/…`: the same for another process, or for a person with curl. These requests are neither counted nor recorded.
 *
 *     GET    /_simulator/arrivals      requests that arrived, with times and headers; ?last=N: only the latest
 *     DELETE /_simulator/arrivals      forget them
 *     GET    /_simulator/stats         counts, and the greatest number within any 60 s
 *     GET    /_simulator/switches      its behaviour
 *     PATCH  /_simulator/switches      {"limit": 100}
 *     POST   /_simulator/faults        {"match": "GET /api/v1/**", "times": 1, "fault": {"kind": "reset", "when": "before"}}
 *     DELETE /_simulator/faults        remove all faults
 *     POST   /_simulator/external      {"count": 50}: others use the account
 *     GET    /_simulator/accounts      of each: tier, limit, and the operations of the month, allowed and used
 *     PATCH  /_simulator/accounts      {"limit": 120}, {"tier": "professional"}, {"operations": 40}; null: as the switches say
 *     POST   /_simulator/operations    {"count": 50}: others use operations of the account
 *     POST   /_simulator/keys          {"id": "primary", "key": "…"}: accepted from now on
 *     POST   /_simulator/revoke        {"key": "primary"}, its id, or {"token": "…"}: 401 from now on
 *     POST   /_simulator/expire        {}: all login tokens expire; {"user": "…"}: those of one user
 *     POST   /_simulator/logins        {"rejected": true}
 *     GET    /_simulator/jwks          public keys of an issuer of tokens for callers of the gateway
 *     POST   /_simulator/tokens        {"subject": "…", "audience": "patchgate"}: a token of it; with "lifetime" in seconds, "claims", "issuer"
 *     POST   /_simulator/rotate        the issuer uses another key
 *
 * Actions on accounts, keys and counters take an `"account"`. Default: the first account; for revoke: all accounts.
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
  'POST external': (simulator, body) => ({
    used: simulator.useExternally(wholeOf(body['count'] ?? 1, 'count', 0), textOf(body['account'], 'account')),
  }),
  'GET accounts': (simulator) => simulator.accounts(),
  'PATCH accounts': (simulator, { account, ...changed }) => {
    simulator.setAccount(changed, textOf(account, 'account'));
    return simulator.accounts();
  },
  'POST operations': (simulator, { count, account }) =>
    simulator.useOperations(wholeOf(count, 'count', 0), textOf(account, 'account')),
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
  'POST logins': (simulator, { rejected }) => {
    if (typeof rejected !== 'boolean') throw new TypeError('rejected must be true or false');
    simulator.credentials.rejectLogins(rejected);
  },
  'GET jwks': ({ issuer }) => issuer.jwks(),
  'POST tokens': ({ issuer, url }, body) => ({
    token: issuer.mint({
      issuer: textOf(body['issuer'], 'issuer') ?? url,
      subject: textOf(body['subject'], 'subject'),
      audience: textOf(body['audience'], 'audience') ?? 'patchgate',
      lifetimeSeconds: body['lifetime'] === undefined ? undefined : Number(body['lifetime']),
      claims: body['claims'] as Body | undefined,
    }),
  }),
  'POST rotate': ({ issuer }) => issuer.rotate(),
};

export function handleControl(incoming: IncomingMessage, outgoing: ServerResponse, simulator: Simulator): void {
  const [name = '', query = ''] = (incoming.url ?? '').slice('/_simulator/'.length).split('?');
  const action = actions[`${incoming.method} ${name}`];
  const respond = (status: number, value: unknown): void => {
    const body = `${JSON.stringify(value)}\n`;
    outgoing.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
    outgoing.end(body);
  };
  readBody(incoming, (text) => {
    if (action === undefined) {
      respond(404, { message: `known: ${Object.keys(actions).join(', ')}` });
      return;
    }
    try {
      respond(200, action(simulator, bodyOf(text), new URLSearchParams(query)) ?? { ok: true });
    } catch (error) {
      respond(400, { message: error instanceof Error ? error.message : 'malformed' });
    }
  });
}

function readBody(incoming: IncomingMessage, done: (text: string) => void): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  incoming.on('error', () => {});
  incoming.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
    else incoming.destroy();
  });
  incoming.on('end', () => done(Buffer.concat(chunks).toString('utf8')));
}

function bodyOf(text: string): Body {
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
