import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadSettings, renderProblems } from '../../src/config/load.ts';
import type { Simulator } from '../../src/simulator/control.ts';
import type { Fault } from '../../src/simulator/faults.ts';
import { type Canary, sightings, writtenForms } from '../support/canaries.ts';
import {
  ADMIN,
  APIKEY,
  CALLBACK,
  CANARIES,
  type CanaryGateway,
  canaryGateway,
  GUESS,
  METRICS,
  NEW,
  OTHER,
  PASSWORD,
  REDIS,
  REMOVED,
  SENT_SIGNATURE,
  SPARE,
  TENANT,
  TRACING,
  VARIABLES,
  WEBHOOK,
  WRONG_ADMIN,
} from '../support/canary-gateway.ts';
import type { Config } from '../support/gateway.ts';
import { patchgate } from '../support/process.ts';
import { until } from '../support/redis.ts';
import { contentsOf } from '../support/redis-contents.ts';
import { monitorRedis } from '../support/redis-monitor.ts';

const FAULTS: readonly Fault[] = [
  { kind: 'status', status: 500, body: '{"message":"Server Error"}' },
  { kind: 'status', status: 429, headers: { 'Retry-After': '0' } },
  { kind: 'status', status: 422 },
  // An upstream that says again what it was sent; of a 401 and of a login nothing may come down.
  {
    kind: 'status',
    status: 401,
    body: JSON.stringify({ message: `bad ${APIKEY.value} ${SPARE.value} ${PASSWORD.value}` }),
  },
  { kind: 'reset', when: 'before' },
  { kind: 'reset', when: 'after' },
  { kind: 'stall', when: 'before' },
  { kind: 'stall', when: 'body' },
  { kind: 'truncate', framing: 'length' },
  { kind: 'truncate', framing: 'chunked' },
  { kind: 'drip', pieces: 2, pauseMs: 5 },
  { kind: 'garbage' },
  { kind: 'garbage', bytes: `HTTP/1.1 abc ${APIKEY.value} ${PASSWORD.value}\r\n\r\n` },
  {
    kind: 'headers',
    headers: { 'Set-Cookie': 'a=b', Authorization: APIKEY.value, 'Authentication-Info': APIKEY.value },
  },
  { kind: 'delay', ms: 5 },
];

test('a search that would find nothing is worth nothing: each form of each canary is found where it is', () => {
  for (const each of CANARIES) {
    for (const [form, written] of writtenForms(each.value)) {
      expect([form, sightings(`before ${written} after`, CANARIES).length > 0]).toEqual([form, true]);
    }
  }
  expect(sightings('Canary-', CANARIES)).toEqual([]);
});

const REPEATED: Fault = { kind: 'headers', headers: { 'patchworks-signature': CALLBACK.value, 'X-Kept': 'yes' } };
/** A server that redirects repeats the URL of the request. */
const REDIRECT: Fault = {
  kind: 'headers',
  headers: { Location: `/api/v1/acme/41/?patchworks_signature=${encodeURIComponent(WEBHOOK.value)}` },
};

/** Signatures of the gateway and of callers, and the variables of a run. */
async function everyTrigger({ traffic, simulator }: CanaryGateway): Promise<void> {
  const [signature, variables] = [SENT_SIGNATURE.value, VARIABLES.value].map(encodeURIComponent);
  const headers = { 'patchworks-signature': SENT_SIGNATURE.value };
  for (const path of ['/callbacks/orders', '/webhooks/stock']) {
    for (const method of ['GET', 'HEAD', 'POST']) {
      expect(await traffic(`${path}?flow_variables=${variables}`, { method, headers })).toBe(200);
      for (const name of ['patchworks_signature', 'patchworks%5Fsignature'])
        expect(await traffic(`${path}?${name}=${signature}`, { method })).toBe(400);
    }
    for (const fault of path === '/webhooks/stock' ? [...FAULTS, REDIRECT] : [REPEATED]) {
      // Its credential is in backoff for a minute after a 401.
      if (fault.kind === 'status' && fault.status === 401) continue;
      simulator.fault({ match: '* /api/v1/acme/*', fault, times: 1 });
      await traffic(path, { method: 'POST', body: '{}', headers: { Prefer: 'wait=10' } });
      simulator.clearFaults();
    }
  }
  for (const path of ['/api/v1/flows/1/start', '/api/v1/flows/1/start/raw', '/api/v1/flows/1/manual', '/nowhere'])
    await traffic(`${path}?flow_variables=${variables}`, { method: 'POST', headers: { 'Idempotency-Key': path } });
  await traffic(`/nowhere?patchworks_signature=${signature}`);
}

async function everyRoute({ traffic }: CanaryGateway, tokens: readonly Canary[]): Promise<void> {
  for (const path of [
    '/api/v1/flows',
    '/api/v1/flows/1',
    '/api/v1/flow-runs',
    '/api/v1/nothing',
    '/api/v2/x',
    '/nowhere',
    '/_gateway/whoami',
    '/api/v1/users',
    '/api/v1//x',
    '/api/v1/payload-metadata/1/download?bytes=5000',
  ]) {
    for (const method of ['GET', 'HEAD', 'DELETE']) await traffic(path, { method });
  }
  const post = (headers: Record<string, string>, body: string) =>
    traffic('/api/v1/flows/1/start', { method: 'POST', headers, body });
  for (let i = 0; i < 2; i++) await post({ 'Idempotency-Key': 'order-1' }, '{}');
  await post({ 'Idempotency-Key': 'order-1' }, '{"other":1}');
  await post({ 'Idempotency-Key': 'a b' }, '{}');
  await post({}, 'x'.repeat(10_000));
  await traffic('/api/v1/data-pool?_method=DELETE', { method: 'POST' });
  // Paths are logged; what the gateway knows to be a secret is masked in them too.
  for (const { value } of [APIKEY, SPARE, PASSWORD, ADMIN, METRICS, REDIS, TRACING])
    for (const form of [
      encodeURIComponent(value),
      Buffer.from(value).toString('base64url'),
      Buffer.from(value).toString('hex'),
    ])
      await traffic(`/nowhere/${form}?${form}`);
  await traffic('/api/v1/flows', { headers: { 'Cache-Control': 'only-if-cached' } });
  for (const headers of [
    { Authorization: '' },
    { Authorization: GUESS.value },
    { Authorization: `Bearer ${GUESS.value}` },
    { 'X-API-Key': GUESS.value },
    { Authorization: `Basic ${Buffer.from(`user:${GUESS.value}`).toString('base64')}` },
    { Authorization: OTHER.value },
    { Authorization: `Bearer ${REMOVED.value}` },
    { 'X-API-Key': REMOVED.value },
    { Authorization: APIKEY.value },
    { Authorization: `Bearer ${ADMIN.value}` },
    ...tokens.map(({ value }) => ({ Authorization: `Bearer ${value}` })),
    ...tokens.map(({ value }) => ({ 'X-API-Key': value, Authorization: '' })),
    { Cookie: `session=${GUESS.value}`, traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
  ])
    await traffic('/api/v1/flow-runs', { headers: headers as Record<string, string> });
}

/** Tokens of callers: accepted, and rejected for each reason that looks into them. */
function tokensOf({ issuer, url }: Simulator): Canary[] {
  const mint = (more: object) => issuer.mint({ issuer: url, audience: 'patchgate', subject: 'canary-worker', ...more });
  const accepted = mint({});
  const forged = `${accepted.slice(0, -20)}${'A'.repeat(20)}`;
  const others = [
    { lifetimeSeconds: -3_600 },
    { subject: 'unknown' },
    { audience: 'other' },
    { issuer: 'http://other' },
  ];
  return [accepted, forged, ...others.map(mint)].map((value, i) => ({ name: `token ${i}`, value }));
}

/** Longer than the eight digits by which a log may name a key. */
const DIGITS = 9;

function found(text: string, canaries: readonly Canary[]): string[] {
  return canaries.filter(({ value }) => text.includes(value)).map(({ name }) => name);
}

function digestsOf(canaries: readonly Canary[]): Canary[] {
  return canaries.flatMap(({ name, value }) =>
    (['hex', 'base64url', 'base64'] as const).map((form) => ({
      name: `digest of ${name} in ${form}`,
      value: createHash('sha256').update(value).digest(form).slice(0, DIGITS),
    })),
  );
}

/** A 429 holds the account for a while. */
const PATIENT = { headers: { Prefer: 'wait=10' } };

async function everyFault({ simulator, traffic, admin, settings, loginAlone, files }: CanaryGateway): Promise<void> {
  for (const fault of FAULTS) {
    // The retry of a read meets the same fault. A second 401 would put the spare into backoff, too.
    simulator.fault({ match: 'GET /api/v1/scripts', fault, ...(fault.kind === 'status' && { times: 1 }) });
    await traffic('/api/v1/scripts', PATIENT);
    simulator.clearFaults();
  }
  // Logins, and whatever can go wrong with them; a credential of a new name has no rest to take from the one before.
  const path = join(files.path, 'gateway.yaml');
  const faults = [null, ...FAULTS.filter(({ kind }) => kind !== 'stall' && kind !== 'drip')];
  for (const [i, fault] of faults.entries()) {
    await writeFile(path, JSON.stringify(settings(loginAlone(`login-${i}`))));
    expect(await admin('/reload', { method: 'POST' })).toBe(200);
    if (fault !== null) simulator.fault({ match: 'POST /fabric/api/login', fault });
    for (let turn = 0; turn < 2; turn++) await traffic('/api/v1/flow-runs', PATIENT);
    await admin('/status');
    simulator.clearFaults();
  }
  await writeFile(path, JSON.stringify(settings()));
  expect(await admin('/reload', { method: 'POST' })).toBe(200);
}

async function everyAdminPath({ admin, process }: CanaryGateway): Promise<void> {
  const paths = ['/', '/metrics', '/status', '/config', '/livez', '/readyz', '/nothing'];
  for (const path of paths) {
    await admin(path);
    await admin(path, { method: 'POST' });
    for (const Authorization of ['', `Bearer ${WRONG_ADMIN.value}`, WRONG_ADMIN.value, `Bearer ${METRICS.value}`])
      await admin(path, { headers: { Authorization, Accept: 'text/html' } });
  }
  await admin('/events', { signal: AbortSignal.timeout(1_000) });
  for (const body of ['{"path":"/api/v1/flows/**","account":"main"}', '{"account":"none"}', 'nonsense', '{"path":1}'])
    await admin('/cache/purge', { method: 'POST', body, headers: { 'Content-Type': 'application/json' } });
  await admin('/reload', { method: 'POST', headers: { Origin: 'https://elsewhere.example' } });
  process.child.kill('SIGHUP');
}

/** Where a secret has no business: each is refused, and told of. */
const MISPLACED: readonly Config[] = [
  { listen: { traffic: { port: '${API_KEY}' } } },
  { log: { level: '${file:new}' } },
  { limits: { body: '${file:new}', idleTimeout: '${ADMIN_TOKEN}' } },
  { upstreams: { core: { origin: '${file:new}' }, start: { origin: 'http://u:${file:spare-key}@host' } } },
  { redis: { url: 'http://:${file:redis-password}@127.0.0.1' } },
  { redis: { url: 'redis://127.0.0.1', sentinels: ['${file:new}'], onOutage: '${file:redis-password}' } },
  {
    routes: [
      { match: '${file:new}', upstream: '${file:new}' },
      { match: 'GET ${file:new}', upstream: '${API_KEY}' },
    ],
  },
  { routes: [{ match: 'GET /a/**', upstream: '${file:new}' }] },
  { accounts: { '${file:new}': {} } },
  { accounts: { main: { credentials: [{ id: '${file:new}', apiKey: { value: '${file:new}' } }] } } },
  {
    accounts: {
      main: {
        credentials: [{ id: 'a', login: { url: '${file:password}', username: 'u', password: '${file:password}' } }],
      },
    },
  },
  { tenants: { a: { account: '${file:new}', keys: [{ id: 'a', sha256: TENANT.value, expires: NEW.value }] } } },
  { tenants: { a: { allow: ['${file:new}', 'GET ${file:new}/*x'] } } },
  { cache: { rules: [{ match: 'GET /a', ttl: '${file:new}', vary: ['${file:new}'], tags: ['${file:new}'] }] } },
  { cache: { invalidate: [{ after: '${file:new}', drop: ['${file:new}'] }] } },
  { tracing: { endpoint: '${file:new}', headers: { '${file:new}': '${file:tracing}' } } },
  { tenantsFile: '${file:new}', tenants: undefined },
  { listen: { [APIKEY.value]: 1 } },
  { identity: { issuers: { '${file:new}': {} } } },
  {
    identity: {
      issuers: {
        a: {
          issuer: '${file:new}',
          audience: ['${file:new}'],
          algorithms: ['${file:new}'],
          jwks: { url: '${file:new}' },
        },
      },
    },
  },
  { identity: { issuers: { a: { issuer: 'a', audience: 'b', jwks: { file: '${file:new}' } } } } },
  { tenants: { a: { identities: [{ issuer: '${file:new}', subject: '${file:new}' }] } } },
];

async function everyRefusedLoad({ files, settings, admin, env, shown }: CanaryGateway): Promise<void> {
  const path = join(files.path, 'gateway.yaml');
  const good = JSON.stringify(settings());
  const texts = [
    ...MISPLACED.map((more) => JSON.stringify(settings(more))),
    `${good.slice(0, -40)}: "${NEW.value}`,
    `a: [${NEW.value}`,
    `- ${NEW.value}`,
  ];
  for (const text of texts) {
    await writeFile(path, text);
    expect([text.slice(-200), await admin('/reload', { method: 'POST' })]).toEqual([text.slice(-200), 422]);
    await admin('/status');
    // The text that `patchgate check` prints.
    const loaded = await loadSettings({ path, env });
    if (!loaded.ok) shown.push(renderProblems(loaded.problems));
  }
  await using check = patchgate(['check', '--config', 'gateway.yaml'], { cwd: files.path, env });
  await check.exited;
  shown.push(check.stdout(), check.stderr());
  await writeFile(path, good);
  expect(await admin('/reload', { method: 'POST' })).toBe(200);
}

/** Codes that must have been in a response, or the test did not reach what it claims to cover. */
const EXPECTED_CODES = [
  ...[
    'key_missing',
    'token_invalid',
    'token_expired',
    'identity_unknown',
    'key_unknown',
    'key_conflict',
    'route_forbidden',
    'route_unknown',
    'path_not_canonical',
    'bad_request',
  ],
  ...[
    'body_too_large',
    'idempotency_mismatch',
    'only_if_cached',
    'upstream_timeout',
    'upstream_protocol',
    'unauthorized',
  ],
  ...['upstream_unreachable', 'upstream_credentials_rejected', 'state_unavailable', 'config_refused', 'cross_site'],
];

describe('no secret leaves the gateway', () => {
  test('on any route, error, fault, refused load or outage of Redis, at the most talkative level, in any form', {
    timeout: 120_000,
  }, async () => {
    await using everything = await canaryGateway();
    const { redis, simulator, process, shown, traffic, admin } = everything;
    const client = redis.client();
    using monitor = await monitorRedis(redis.port, REDIS.value);
    // The first responses fill the buckets.
    for (let i = 0; i < 2; i++) await traffic('/api/v1/notifications', PATIENT);
    const issued = tokensOf(simulator);
    await everyRoute(everything, issued);
    await everyTrigger(everything);
    const before = await contentsOf(client);
    await everyFault(everything);
    await everyAdminPath(everything);
    const contents = before + (await contentsOf(client));
    expect(before).toMatch(/:cache:response/);
    expect(contents).toMatch(/:idempotency:/);
    expect(monitor.lines().length).toBeGreaterThan(100);

    redis.stop();
    await traffic('/api/v1/flow-runs');
    await admin('/status');
    redis.resume();
    await client.config('SET', 'requirepass', 'another-password');
    await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await until('Redis refuses the password', async () => /WRONGPASS|NOAUTH|password|Redis/i.test(process.stdout()));
    await traffic('/api/v1/flow-runs');
    await redis.kill();
    await traffic('/api/v1/flow-runs');
    await admin('/status');
    await everyRefusedLoad(everything);
    process.child.kill('SIGTERM');
    expect((await process.exited).code).toBe(0);

    expect(process.stdout()).toContain('"level":"debug"');
    expect(process.stdout().match(/"claimedTenant":"billing","keyDigest":"[0-9a-f]{8}"/g)).toHaveLength(1);
    expect(contents).toMatch(/key-uses/);
    expect(everything.traces.join('')).toContain('/callbacks/orders');
    expect(shown.join('')).toContain('"x-kept","yes"');
    for (const code of EXPECTED_CODES) expect(shown.join('')).toContain(`"code":"${code}"`);
    const logins = simulator
      .arrivals()
      .flatMap(({ headers }) => headers.filter((value) => value.startsWith('Bearer ')))
      .map((value): Canary => ({ name: 'token', value: value.slice('Bearer '.length) }));
    expect(logins.length).toBeGreaterThan(0);
    // A part of a token is as good as the whole to a search for it.
    const parts = issued.flatMap(({ name, value }) =>
      value
        .split('.')
        .slice(1)
        .map((part) => ({ name, value: part })),
    );
    const digests = digestsOf([TENANT, OTHER, GUESS, ...issued]);
    // A page of upstream that repeats what it was sent is its own; only the faults above did.
    for (const [where, text] of Object.entries({
      'standard output': process.stdout(),
      'standard error': process.stderr(),
      answers: shown.join(''),
      traces: everything.traces.join(''),
      'what Redis holds': contents,
      'what Redis received': monitor.text(),
    })) {
      expect([
        where,
        [...sightings(text, [...CANARIES, ...logins, ...issued, ...parts]), ...found(text, digests)],
      ]).toEqual([where, []]);
    }
  });
});
