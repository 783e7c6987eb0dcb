import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Simulator } from './api.ts';
import type { FaultRule } from './faults.ts';
import type { Switches } from './options.ts';

type Body = Record<string, unknown>;

/**
 * `/_simulator/…`: what a test, or a person with curl, can ask and change. Never counted, never recorded.
 *
 *     GET    /_simulator/arrivals      what has arrived, with times and headers
 *     DELETE /_simulator/arrivals      forget it
 *     GET    /_simulator/stats         counts, and the greatest number within any 60 s
 *     GET    /_simulator/switches      how it behaves
 *     PATCH  /_simulator/switches      {"limit": 100}
 *     POST   /_simulator/faults        {"match": "GET /api/v1/**", "times": 1, "fault": {"kind": "reset", "when": "before"}}
 *     DELETE /_simulator/faults        no more of them
 *     POST   /_simulator/foreign       {"count": 50}: others use the account
 *     POST   /_simulator/revoke        {"key": "primary"}: 401 from now on
 *     POST   /_simulator/expire        every login token is worthless
 */
const actions: Readonly<Record<string, (simulator: Simulator, body: Body) => unknown>> = {
  'GET arrivals': (simulator) => simulator.arrivals(),
  'DELETE arrivals': (simulator) => simulator.reset(),
  'GET stats': (simulator) => simulator.stats(),
  'GET switches': (simulator) => simulator.switches,
  'PATCH switches': (simulator, body) => {
    const unknown = Object.keys(body).filter((name) => !Object.hasOwn(simulator.switches, name));
    if (unknown.length > 0) throw new TypeError(`unknown switch: ${unknown.join(', ')}`);
    return Object.assign(simulator.switches, body as Partial<Switches>);
  },
  'POST faults': (simulator, body) => simulator.fault(body as unknown as FaultRule),
  'DELETE faults': (simulator) => simulator.clearFaults(),
  'POST foreign': (simulator, body) => simulator.useForeign(Math.min(Number(body['count'] ?? 1), 1_000_000)),
  'POST revoke': (simulator, body) => {
    if (!simulator.credentials.revokeKey(String(body['key']))) throw new TypeError('there is no such key');
  },
  'POST expire': (simulator) => simulator.credentials.expireTokens(),
};

export function handleControl(incoming: IncomingMessage, outgoing: ServerResponse, simulator: Simulator): void {
  const name = (incoming.url ?? '').slice('/_simulator/'.length).split('?')[0] ?? '';
  const action = actions[`${incoming.method} ${name}`];
  const chunks: Buffer[] = [];
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
  incoming.on('end', () => {
    const answer = (status: number, value: unknown): void => {
      outgoing.writeHead(status, { 'Content-Type': 'application/json' });
      outgoing.end(`${JSON.stringify(value)}\n`);
    };
    if (action === undefined) {
      answer(404, { message: `known: ${Object.keys(actions).join(', ')}` });
      return;
    }
    try {
      const text = Buffer.concat(chunks).toString('utf8');
      answer(200, action(simulator, text === '' ? {} : JSON.parse(text)) ?? { ok: true });
    } catch (error) {
      answer(400, { message: error instanceof Error ? error.message : 'malformed' });
    }
  });
}
