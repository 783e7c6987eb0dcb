import { expect, test } from 'vitest';
import { BILLING_KEY, configuration, run } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const AUTH = `Authorization: ${BILLING_KEY}`;
/** The routes are those of a configuration without any. */
const defaults = (upstream: string) => configuration(upstream, { routes: undefined });

test.each([
  ['GET', '/core-main/api/v1/flows', 'Leave out `/core-main`: the gateway has this API at `/api/v1`.'],
  ['POST', '/core-start/api/v1/flows/1/start', 'Leave out `/core-start`: the gateway has this API at `/api/v1`.'],
  ['GET', '/core%2Dmain/api/v1/flows', 'Leave out `/core-main`: the gateway has this API at `/api/v1`.'],
  ['POST', '/fabric/api/login', 'Leave out the login, send your gateway key with each request'],
  ['PUT', '/fabric/api/v2/companies/1/manage', 'The gateway logs in to Patchworks by itself'],
  ['GET', '/inbound/x', 'The gateway has no route for this method and path. Paths begin with `/api/v1`.'],
])('%s %s of the dashboard host is refused with what to call instead', async (method, path, sentence) => {
  await using gateway = await run({ config: defaults });
  const response = await sendRaw(gateway.port, rawRequest(`${method} ${path}`, [AUTH]));
  expect([response.status, JSON.parse(response.body).code]).toEqual([404, 'route_unknown']);
  expect(JSON.parse(response.body).detail).toContain(sentence);
  expect(gateway.simulator.arrivals()).toEqual([]);
});

test.each(['start', 'start/7', 'start/raw', 'start/raw/7', 'manual', 'manual/7', 'manual/raw', 'manual/raw/7'])(
  'a POST to flows/1/%s goes to the start host',
  async (way) => {
    await using gateway = await run({ config: defaults });
    const target = `/api/v1/flows/1/${way}?virtual_environment_id=3&flow_variables=%7B%22a%22%3A1%7D`;
    await sendRaw(gateway.port, rawRequest(`POST ${target}`, [AUTH, 'Content-Length: 2'], '{}'));
    expect(gateway.simulator.arrivals().map((each) => each.target)).toEqual([target]);
    expect(await gateway.metric('patchgate_upstream_requests_total', { upstream: 'start' })).toBe(1);
    expect(gateway.logText()).not.toMatch(/flow_variables|virtual_environment/);
  },
);
