import { expect, test } from 'vitest';
import { BILLING_KEY, configuration, run } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const AUTH = `Authorization: ${BILLING_KEY}`;
/** The routes are those of a configuration without any. */
const defaults = (upstream: string) => configuration(upstream, { routes: undefined });

test('a path of the dashboard host is refused with what to call instead', async () => {
  await using gateway = await run({ config: defaults });
  for (const [method, path, sentence] of [
    ['GET', '/core-main/api/v1/flows', 'Leave out `/core-main`: the gateway has this API at `/api/v1`.'],
    ['POST', '/core-start/api/v1/flows/1/start', 'Leave out `/core-start`: the gateway has this API at `/api/v1`.'],
    ['GET', '/core%2Dmain/api/v1/flows', 'Leave out `/core-main`: the gateway has this API at `/api/v1`.'],
    ['POST', '/fabric/api/login', 'Leave out the login, send your gateway key with each request'],
    ['PUT', '/fabric/api/v2/companies/1/manage', 'The gateway logs in to Patchworks by itself'],
    ['GET', '/inbound/x', 'The gateway has no route for this method and path. Paths begin with `/api/v1`.'],
  ]) {
    const response = await sendRaw(gateway.port, rawRequest(`${method} ${path}`, [AUTH]));
    expect([path, response.status, JSON.parse(response.body).code]).toEqual([path, 404, 'route_unknown']);
    expect(JSON.parse(response.body).detail).toContain(sentence);
  }
  expect(gateway.simulator.arrivals()).toEqual([]);
});

test('starts in all their forms go to the start host, and their query into no log', async () => {
  await using gateway = await run({ config: defaults });
  const query = 'virtual_environment_id=3&flow_variables=%7B%22a%22%3A1%7D';
  const targets = [
    'start',
    'start/7',
    'start/raw',
    'start/raw/7',
    'manual',
    'manual/7',
    'manual/raw',
    'manual/raw/7',
  ].map((way) => `/api/v1/flows/1/${way}?${query}`);
  for (const target of targets)
    await sendRaw(gateway.port, rawRequest(`POST ${target}`, [AUTH, 'Content-Length: 2'], '{}'));
  expect(gateway.simulator.arrivals().map((each) => each.target)).toEqual(targets);
  expect(await gateway.metric('patchgate_upstream_requests_total', { upstream: 'start' })).toBe(targets.length);
  expect(gateway.logText()).not.toMatch(/flow_variables|virtual_environment/);
});
