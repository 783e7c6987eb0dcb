import { createHash, createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { FAKE_TRIGGERS, type Trigger } from '../../src/simulator/trigger-options.ts';
import {
  arrived,
  BILLING_KEY,
  type Config,
  codeOf,
  configuration,
  eventually,
  PRIMARY,
  run,
  TENANTS,
} from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const [WEBHOOK, CALLBACK] = FAKE_TRIGGERS as readonly [Trigger, Trigger];
const AUTH = `Authorization: ${BILLING_KEY}`;

interface Parts {
  readonly triggers?: readonly Trigger[];
  readonly callbacks?: Config;
  readonly quota?: Config;
}

/** A simulated Patchworks with all of its hosts, and a gateway that holds the signatures. */
async function open({ triggers = FAKE_TRIGGERS, callbacks = {}, quota = { limit: 240 } }: Parts = {}) {
  const simulator = await createSimulator({ triggers });
  const { webhooks: webhookOrigin, callbacks: callbackOrigin } = simulator.triggers!;
  const gateway = await run({
    upstream: simulator,
    config: (upstream) =>
      configuration(upstream, {
        accounts: {
          main: { quota: { burst: 200 }, credentials: [PRIMARY] },
          callbacks: {
            quota,
            credentials: [{ id: 'orders', header: { name: 'patchworks-signature', value: CALLBACK.signature } }],
          },
          webhooks: {
            quota: { limit: 120, ceiling: 118, burst: 30 },
            credentials: [{ id: 'stock', query: { name: 'patchworks_signature', value: WEBHOOK.signature } }],
          },
        },
        upstreams: {
          core: { account: 'main', origin: upstream },
          callbacks: { account: 'callbacks', origin: callbackOrigin, timeout: '20s', ...callbacks },
          webhooks: { account: 'webhooks', origin: webhookOrigin },
        },
        routes: [
          { match: '* /callbacks/orders', upstream: 'callbacks', rewrite: '/api/v1/acme/42', credential: 'orders' },
          { match: '* /webhooks/stock', upstream: 'webhooks', rewrite: '/api/v1/acme/41', credential: 'stock' },
          { match: '* /api/v1/**', upstream: 'core' },
        ],
        tenants: {
          billing: {
            ...TENANTS.billing,
            accounts: ['main', 'callbacks', 'webhooks'],
            quota: { burst: 200, maxWait: '20s' },
          },
        },
      }),
  });
  return {
    ...gateway,
    /** Runs that the Core API lists for a kind of trigger. */
    runs: (trigger: string) =>
      simulator.data.all('flow-runs').filter((each) => each.id > 100_000 && each['trigger'] === trigger),
    /** Ends at a response, whatever connection it came by. */
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await simulator.close();
    },
  };
}

const record = ({
  simulator,
}: {
  simulator: { arrivals(): readonly { account: string | null; credential: string | null; target: string }[] };
}) => simulator.arrivals().map(({ account, credential, target }) => [account, credential, target]);

describe('a callback', () => {
  test('is called by the path of the gateway, with the signature in its header, and answers with what its flow returns', async () => {
    await using gateway = await open();
    const body = '{ "order" : "ä 4711" }\n';
    const response = await gateway.fetch('/callbacks/orders?channel=web%20shop&x=1', { method: 'POST', body });
    expect([response.status, await response.json()]).toEqual([200, [{ flow_run_id: expect.any(Number) }]]);
    const [arrival] = gateway.simulator.arrivals();
    expect(arrival).toMatchObject({
      ...{ account: 'callbacks', credential: 'acme/42', method: 'POST', counted: true, status: 200 },
      target: '/api/v1/acme/42?channel=web%20shop&x=1',
      bodySha256: createHash('sha256').update(body).digest('hex'),
    });
    expect(arrived(arrival!.headers, 'patchworks-signature')).toBe(CALLBACK.signature);
    expect(arrived(arrival!.headers, 'authorization')).toBeUndefined();
    expect(gateway.runs('Callback')).toHaveLength(1);
    expect(gateway.runs('Callback')[0]).toMatchObject({ flow_id: 2, status: 1 });
  });

  test('by GET starts a run each time: none is stored, shared or sent again', async () => {
    await using gateway = await open();
    const together = await Promise.all(Array.from({ length: 5 }, () => gateway.fetch('/callbacks/orders')));
    expect(together.map(({ status }) => status)).toEqual(Array(5).fill(200));
    expect((await gateway.fetch('/callbacks/orders')).headers.get('cache-status')).toBe('patchgate; fwd=bypass');
    expect(gateway.runs('Callback')).toHaveLength(6);
    for (const fault of [
      { kind: 'status', status: 503 },
      { kind: 'reset', when: 'before' },
    ] as const) {
      gateway.simulator.reset();
      gateway.simulator.fault({ match: 'GET /api/v1/acme/42', where: 'response', fault });
      expect((await gateway.fetch('/callbacks/orders')).status).toBeGreaterThanOrEqual(502);
      expect(gateway.simulator.arrivals()).toHaveLength(1);
      gateway.simulator.clearFaults();
    }
    expect(await gateway.metric('patchgate_upstream_retries_total')).toBe(0);
  });

  test('that is slow is waited for as long as its own upstream says, and its POST is sent once', async () => {
    await using gateway = await open({ callbacks: { timeout: '300ms' } });
    gateway.simulator.fault({ match: '* /api/v1/acme/42', times: 1, fault: { kind: 'stall', when: 'before' } });
    const late = await gateway.fetch('/callbacks/orders', { method: 'POST', body: '{}' });
    expect([late.status, await codeOf(late)]).toEqual([504, 'upstream_timeout']);
    await eventually(() => gateway.simulator.arrivals()[0]?.aborted === true, 'the request is aborted');
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect((await gateway.fetch('/callbacks/orders', { method: 'POST', body: '{}' })).status).toBe(200);
  });

  test('has a ceiling of its own: used up, the API goes on, and Patchworks never refuses', async () => {
    await using gateway = await open({ quota: { limit: 240, ceiling: 20, burst: 20 } });
    const now = { method: 'POST', body: '{}', headers: { Prefer: 'wait=0' } };
    const answers = await Promise.all(Array.from({ length: 40 }, () => gateway.fetch('/callbacks/orders', now)));
    const sent = answers.filter(({ status }) => status === 200).length;
    expect(answers.filter(({ status }) => status === 429)).toHaveLength(40 - sent);
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
    expect((await gateway.fetch('/webhooks/stock', { method: 'POST', body: '{}' })).status).toBe(200);
    const { accounts } = gateway.simulator.stats();
    expect(accounts['callbacks']).toMatchObject({ counted: sent, throttled: 0 });
    expect(accounts['callbacks']!.greatestCountedIn60s).toBeLessThanOrEqual(20);
    expect([accounts['main']!.counted, accounts['webhooks']!.counted]).toEqual([1, 1]);
  });

  test('whose signature is wrong is 502, and the API and webhooks go on', async () => {
    const changed = { ...CALLBACK, signature: 'fake-another' };
    await using gateway = await open({ triggers: [WEBHOOK, changed] });
    for (let i = 0; i < 2; i++) {
      const response = await gateway.fetch('/callbacks/orders', { method: 'POST', body: '{}' });
      expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_credentials_rejected']);
    }
    expect(gateway.simulator.arrivals()).toHaveLength(1);
    expect((await gateway.fetch('/webhooks/stock', { method: 'POST', body: '{}' })).status).toBe(200);
  });
});

describe('a webhook', () => {
  test('is called with the signature in its URL, and bytes and hash of the caller unchanged', async () => {
    await using gateway = await open({ triggers: [{ ...WEBHOOK, hmacKey: 'fake-hmac-key' }, CALLBACK] });
    const body = '{"stock":\t[1, 2 ] , "name":"Gr\u00fc\u00dfe"}\r\n';
    const hash = createHmac('sha256', 'fake-hmac-key').update(body).digest('hex');
    const headers = { 'X-HMAC-HASH': hash, 'Content-Type': 'text/plain' };
    const response = await gateway.fetch('/webhooks/stock?source=till', { method: 'POST', body, headers });
    expect([response.status, await response.json()]).toEqual([200, { message: 'Flow initialised.' }]);
    const [arrival] = gateway.simulator.arrivals();
    const target = `/api/v1/acme/41?source=till&patchworks_signature=${WEBHOOK.signature}`;
    expect(arrival).toMatchObject({ account: 'webhooks', credential: 'acme/41', target, method: 'POST' });
    expect(arrival!.bodySha256).toBe(createHash('sha256').update(body).digest('hex'));
    expect([arrived(arrival!.headers, 'x-hmac-hash'), arrived(arrival!.headers, 'content-type')]).toEqual([
      hash,
      'text/plain',
    ]);
    expect(gateway.runs('Webhook')).toHaveLength(1);
    // Another body has another hash.
    const other = await gateway.fetch('/webhooks/stock', { method: 'POST', body: `${body} `, headers });
    expect(other.status).toBe(403);
    expect(gateway.runs('Webhook')).toHaveLength(1);
  });

  test('takes no signature of a caller, in any place', async () => {
    await using gateway = await open();
    const lines = [AUTH, 'patchworks-signature: forged', 'Patchworks_Signature: forged', 'Content-Length: 2'];
    const forged = await sendRaw(gateway.port, rawRequest('POST /callbacks/orders', lines, '{}'));
    expect(forged.status).toBe(200);
    expect(gateway.simulator.arrivals()[0]!.headers).not.toContain('forged');
    for (const path of ['/webhooks/stock', '/callbacks/orders', '/api/v1/flows']) {
      const response = await gateway.fetch(`${path}?patchworks%5Fsignature=forged-by-a-caller`, { method: 'POST' });
      expect([response.status, await codeOf(response)]).toEqual([400, 'bad_request']);
    }
    expect(record(gateway)).toEqual([['callbacks', 'acme/42', '/api/v1/acme/42']]);
    expect(gateway.logText()).not.toMatch(/forged|fake-signature/);
  });
});
