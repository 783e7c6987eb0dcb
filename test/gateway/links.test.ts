import { describe, expect, test } from 'vitest';
import { configuration, PRIMARY, run } from '../support/gateway.ts';

/** A list as Laravel prints it, with the links of this origin. */
const list = (origin: string) =>
  `{"data":[{"url":"${origin}/api/v1/x"}],"links":{"next":"${origin}/api/v1/flows?page=2"},"path":"${origin}/api/v1/flows"}`;
const escaped = (text: string) => text.replaceAll('/', '\\/');
/** Links change, and the data does not. */
const rewritten = (upstream: string, gateway: string) =>
  list(gateway).replace(`"url":"${gateway}`, `"url":"${upstream}`);

async function start(route: Record<string, unknown>, headers: Record<string, string> = {}, body = list) {
  const gateway = await run({
    cold: true,
    config: (upstream) =>
      configuration(upstream, {
        accounts: { main: { credentials: [PRIMARY] } },
        upstreams: { own: { origin: upstream } },
        routes: [route],
        cache: { rules: [] },
      }),
  });
  const { url } = gateway.simulator;
  gateway.simulator.fault({
    match: '* /**',
    fault: {
      kind: 'status',
      status: 200,
      body: body(url),
      headers: {
        'Content-Type': 'application/json',
        Location: `${url}/api/v1/flows/1`,
        'Content-Location': `${url}/api/v1/flows/1`,
        Link: `<${url}/api/v1/flows?page=2>; rel="next", <https://elsewhere.test/>; rel="help"`,
        ...headers,
      },
    },
  });
  return gateway;
}

const fieldsOf = (response: Response) =>
  ['location', 'content-location', 'link'].map((name) => response.headers.get(name));
const fieldsAt = (url: string) => [
  `${url}/api/v1/flows/1`,
  `${url}/api/v1/flows/1`,
  `<${url}/api/v1/flows?page=2>; rel="next", <https://elsewhere.test/>; rel="help"`,
];

describe('links lead back to the gateway', () => {
  test.each([
    ['* /**', '/api/v1/scripts'],
    ['GET /api/v1/flows/**', '/api/v1/flows'],
    ['GET /api/*/connectors', '/api/v1/connectors'],
  ])('on a route that an operator wrote, without another word: %s', async (match, path) => {
    await using gateway = await start({ match, upstream: 'own' });
    const response = await gateway.fetch(path);
    expect(await response.text()).toBe(rewritten(gateway.simulator.url, gateway.url));
    expect(fieldsOf(response)).toEqual(fieldsAt(gateway.url));
  });

  test('in JSON that escapes its slashes', async () => {
    await using gateway = await start({ match: '* /**', upstream: 'own' }, {}, (url) => escaped(list(url)));
    const text = await (await gateway.fetch('/api/v1/flows')).text();
    expect(text).toBe(escaped(rewritten(gateway.simulator.url, gateway.url)));
  });

  test('and the response to a HEAD does not have the length from before that', async () => {
    await using gateway = await start({ match: '* /**', upstream: 'own' });
    const response = await gateway.fetch('/api/v1/flows', { method: 'HEAD' });
    expect([response.status, response.headers.get('content-length')]).toEqual([200, null]);
  });

  test('not with rewriteLinks: false, which passes all of them unchanged', async () => {
    await using gateway = await start({ match: '* /**', upstream: 'own', rewriteLinks: false });
    const response = await gateway.fetch('/api/v1/flows');
    expect(await response.text()).toBe(list(gateway.simulator.url));
    expect(fieldsOf(response)).toEqual(fieldsAt(gateway.simulator.url));
  });
});

describe('a download is a file', () => {
  test.each([
    ['by its path', '/api/v1/payload-metadata/1/download', {}],
    ['by its path, with a slash', '/api/v1/payload-metadata/1/download/', {}],
    ['by its disposition', '/api/v1/flows', { 'Content-Disposition': 'Attachment; filename="a.json"' }],
  ])('%s: its body passes byte for byte, and its redirect leads back', async (_name, path, headers) => {
    await using gateway = await start({ match: '* /**', upstream: 'own' }, headers);
    const response = await gateway.fetch(path);
    expect(await response.text()).toBe(list(gateway.simulator.url));
    expect(fieldsOf(response)).toEqual(fieldsAt(gateway.url));
  });

  test('and is asked for in the encoding that the caller wants', async () => {
    await using gateway = await start({ match: '* /**', upstream: 'own' });
    for (const path of ['/api/v1/payload-metadata/1/download', '/api/v1/flows']) {
      await gateway.fetch(path, { headers: { 'Accept-Encoding': 'br' } });
    }
    const encodings = gateway.simulator
      .arrivals()
      .map(({ headers }) => headers[headers.findIndex((name) => /^accept-encoding$/i.test(name)) + 1]);
    expect(encodings).toEqual(['br', 'identity']);
  });
});
