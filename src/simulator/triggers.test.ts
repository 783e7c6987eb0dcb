import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { FAKE_PRIMARY_KEY } from './options.ts';
import { createSimulator } from './simulator.ts';
import { FAKE_TRIGGERS, type Trigger } from './trigger-options.ts';

const [WEBHOOK, CALLBACK] = FAKE_TRIGGERS as readonly [Trigger, Trigger];

async function open(triggers: readonly Trigger[] = FAKE_TRIGGERS) {
  const clock = new ManualClock();
  const simulator = await createSimulator({ triggers, clock });
  const { webhooks, callbacks } = simulator.triggers!;
  return {
    simulator,
    clock,
    webhook: (rest: string, init: RequestInit = {}) => fetch(`${webhooks}/api/v1/acme/41${rest}`, init),
    callback: (rest: string, init: RequestInit = {}) => fetch(`${callbacks}/api/v1/acme/42${rest}`, init),
    [Symbol.asyncDispose]: () => simulator.close(),
  };
}
const signed = ({ signature }: Trigger) => `?patchworks_signature=${signature}`;
const header = { headers: { 'patchworks-signature': CALLBACK.signature } };

test('a webhook takes its signature in the query alone, a callback in a header too; both by GET and POST', async () => {
  await using it = await open();
  for (const method of ['GET', 'POST']) {
    expect((await it.webhook(signed(WEBHOOK), { method })).status).toBe(200);
    expect((await it.callback(signed(CALLBACK), { method })).status).toBe(200);
    expect((await it.callback('', { method, ...header })).status).toBe(200);
    const asHeader = { 'patchworks-signature': WEBHOOK.signature };
    expect((await it.webhook('', { method, headers: asHeader })).status).toBe(401);
    expect((await it.callback('?patchworks_signature=other', { method })).status).toBe(401);
  }
  expect((await it.webhook(signed(WEBHOOK), { method: 'PUT' })).status).toBe(405);
  expect((await it.webhook(`/dev${signed(WEBHOOK)}`)).status).toBe(404);
  expect((await it.callback('/../41', header)).status).toBe(404);
});

test('a webhook responds with a message, a callback with an array, and the core lists the runs with their triggers', async () => {
  await using it = await open();
  const body = '{"a":1}';
  const hooked = await it.webhook(signed(WEBHOOK), { method: 'POST', body });
  expect(await hooked.json()).toEqual({ message: 'Flow initialised.' });
  const [answer] = (await (await it.callback('?x=1', header)).json()) as [{ flow_run_id: number }];
  const url = `${it.simulator.url}/api/v1/flow-runs/${answer.flow_run_id}`;
  const init = { headers: { Authorization: FAKE_PRIMARY_KEY, Accept: 'application/json' } };
  expect(await (await fetch(url, init)).json()).toMatchObject({ data: { flow_id: 2, trigger: 'Callback' } });
  const payloads = it.simulator.data.all('payload-metadata').slice(-2);
  expect(payloads.map((each) => each['bytes'])).toEqual([body.length, '{"x":"1"}'.length]);
  expect(it.simulator.accounts()['main']!.operations.used).toBe(1);
});

test('the hosts have limits of their own, and the Core API has its own', async () => {
  await using it = await open();
  const statuses = new Map<string, number>();
  const count = ({ status }: Response, of: string) =>
    statuses.set(`${of} ${status}`, (statuses.get(`${of} ${status}`) ?? 0) + 1);
  for (let i = 0; i < 125; i++) count(await it.webhook(signed(WEBHOOK)), 'webhook');
  for (let i = 0; i < 125; i++) count(await it.callback('', header), 'callback');
  expect(Object.fromEntries(statuses)).toEqual({ 'webhook 200': 120, 'webhook 429': 5, 'callback 200': 125 });
  expect(it.simulator.stats().accounts).toMatchObject({
    webhooks: { counted: 120, throttled: 5 },
    callbacks: { counted: 125, throttled: 0 },
    main: { counted: 0 },
  });
  it.clock.advance(60_000);
  expect((await it.webhook(signed(WEBHOOK))).status).toBe(200);
  expect(it.simulator.arrivals().at(-1)).toMatchObject({ account: 'webhooks', credential: 'acme/41' });
});

test('a wrong hash and an inactive flow are refused, and a trigger may have a response of its own', async () => {
  const hmacKey = 'fake-hmac-key';
  const answer = { status: 202, body: { accepted: true } };
  const inactive: Trigger = { kind: 'webhook', path: 'acme/50/dev', signature: 'fake', flow: 10 };
  await using it = await open([{ ...WEBHOOK, hmacKey, answer }, inactive]);
  const hash = createHmac('sha256', hmacKey).update('{}').digest('hex');
  const send = (body: string, given: string) =>
    it.webhook(signed(WEBHOOK), { method: 'POST', body, headers: { 'X-HMAC-HASH': given } });
  expect((await send('{ }', hash)).status).toBe(403);
  const accepted = await send('{}', hash);
  expect([accepted.status, await accepted.json()]).toEqual([202, { accepted: true }]);
  const url = `${it.simulator.triggers!.webhooks}/api/v1/acme/50/dev?patchworks_signature=fake`;
  expect((await fetch(url)).status).toBe(404);
});
