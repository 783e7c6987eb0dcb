import type { NetworkPolicy } from 'kubernetes-types/networking/v1.d.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { renderProblems } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';
import { applicable, RESTART_ONLY } from '../../src/reload/restart-only.ts';
import { type Chart, CI, type CiFile, chart, type Manifest, only, readChart } from '../support/helm.ts';
import { gatewayPod, loadedFrom, OTHERS } from '../support/helm-release.ts';

let built: Chart;
beforeAll(async () => {
  built = await chart();
});
afterAll(() => built[Symbol.asyncDispose]());

async function settingsOf(manifests: readonly Manifest[], file: CiFile): Promise<Settings> {
  const loaded = await loadedFrom(manifests, OTHERS[file]);
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}

describe('what the chart makes of values', () => {
  test('Prometheus has a token of its own, also where the values name none', async () => {
    const manifests = await built.manifests('minimal', { metrics: { serviceMonitor: { enabled: true } } });
    const { token, tokens } = (await settingsOf(manifests, 'minimal')).listen.admin;
    expect(tokens.map(({ id, role }) => [id, role])).toEqual([['prometheus', 'metrics']]);
    expect(tokens[0]?.token.reveal()).toMatch(/^[0-9a-f]{64}$/);
    expect(token?.reveal()).toBe('fake-admin-token');
  });

  test.each(CI)('%s: is accepted by the gateway, without an open admin port', async (file) => {
    const manifests = await built.manifests(file);
    const loaded = await loadedFrom(manifests, OTHERS[file]);
    if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
    expect(loaded.warnings.filter((warning) => !/no caller can use/.test(warning))).toEqual([]);
    expect(loaded.settings.listen.admin.token?.reveal()).toBe('fake-admin-token');
    // Prometheus has a token of its own where it scrapes, and no other role.
    const tokens = loaded.settings.listen.admin.tokens.map(({ id, token, role }) => [id, token.reveal(), role]);
    const scraped = manifests.some(({ kind }) => kind === 'ServiceMonitor');
    expect(tokens).toEqual([
      ...(file === 'everything' ? [['team-gate', 'fake-team-token', 'read']] : []),
      ...(scraped ? [['prometheus', 'fake-metrics-token', 'metrics']] : []),
    ]);
    const { container } = gatewayPod(manifests);
    const ports = Object.fromEntries((container.ports ?? []).map(({ name, containerPort }) => [name, containerPort]));
    const { traffic, admin } = loaded.settings.listen;
    expect([ports, traffic.host, admin.host]).toEqual([
      { traffic: traffic.port, admin: admin.port },
      file === 'everything' ? '::' : '0.0.0.0',
      file === 'everything' ? '::' : '0.0.0.0',
    ]);
  });

  test('is what was given: numbers, dates and placeholders come through YAML unchanged', async () => {
    const settings = await settingsOf(await built.manifests('everything'), 'everything');
    expect(settings.accounts.get('other')?.quota).toEqual({
      limit: 1_000_000,
      ceiling: 900_000,
      burst: 1000,
      adoptLimit: true,
      coldStart: 'trust',
    });
    expect(
      settings.accounts
        .get('other')
        ?.credentials.map((each) => ('value' in each ? each.value : each.kind === 'apiKey' ? each.apiKey : null))
        .map((secret) => secret?.reveal()),
    ).toEqual(['fake-patchworks-key-other', 'fake-spare', 'fake-orders', 'fake-stock']);
    expect(settings.tenants.get('billing')?.keys[0]?.expiresAtMs).toBe(Date.parse('2027-05-31T00:00:00+02:00'));
    expect(settings.redis?.servers).toEqual({ kind: 'alone', host: 'team-gate-valkey', port: 6379, db: 0 });
    expect(settings.redis?.password?.reveal()).toBe('fake-redis-password');
    const ha = await settingsOf(await built.manifests('ha'), 'ha');
    // Written without quotes: YAML 1.1 would make a date of it.
    expect(ha.tenants.get('billing')?.keys[0]?.expiresAtMs).toBe(Date.parse('2027-05-31T00:00:00Z'));
  });

  test('is accepted for the values that the README begins with', async () => {
    const example = /values\.yaml`:\n\n {3}```yaml\n([\s\S]*?)\n {3}```/.exec(await readChart('README.md'))?.[1] ?? '';
    const values = parse(example.replace('<64 hexadecimal digits>', 'a'.repeat(64))) as object;
    const rendered = await built.render(null, values);
    if (!rendered.ok) throw new Error(rendered.error);
    expect(await loadedFrom(rendered.manifests(), OTHERS.ha)).toMatchObject({ ok: true, warnings: [] });
  });

  test('takes the tenants from a ConfigMap of others, and nothing else of it', async () => {
    const settings = await settingsOf(await built.manifests('ingress'), 'ingress');
    expect([...settings.tenants.keys()]).toEqual(['billing']);
    const { spec } = gatewayPod(await built.manifests('ingress'));
    expect(spec.volumes?.[0]?.projected?.sources?.[1]).toEqual({
      configMap: { name: 'patchgate-tenants', items: [{ key: 'tenants.yaml', path: 'tenants.yaml' }] },
    });
  });
});

test('with the issuer of its cluster, a release reads the keys from the API server, by a token of its own', async () => {
  const without = gatewayPod(await built.manifests('minimal')).spec;
  expect(JSON.stringify(without)).not.toContain('serviceAccountToken');
  const manifests = await built.manifests('minimal', {
    identity: { kubernetes: { issuer: 'https://issuer.example.test' } },
  });
  const settings = await settingsOf(manifests, 'minimal');
  expect(settings.identity.issuers.get('kubernetes')).toMatchObject({
    ...{ issuer: 'https://issuer.example.test', audiences: ['patchgate'] },
    jwks: {
      ...{
        kind: 'url',
        url: 'https://kubernetes.default.svc/openid/v1/jwks',
        tokenFile: '/etc/patchgate-cluster/token',
      },
      ca: expect.stringContaining('BEGIN CERTIFICATE'),
    },
  });
  const { spec } = gatewayPod(manifests);
  expect(spec.automountServiceAccountToken).toBe(false);
  expect(spec.volumes?.find(({ name }) => name === 'cluster')?.projected?.sources?.[0]).toEqual({
    serviceAccountToken: { path: 'token', expirationSeconds: 3600 },
  });
  const others = { networkPolicy: { enabled: true } };
  const policy = only<NetworkPolicy>(
    await built.manifests('minimal', { ...others, identity: { kubernetes: { issuer: 'x' } } }),
    'NetworkPolicy',
  );
  expect(JSON.stringify(policy.spec?.egress)).toContain('6443');
  const closed = only<NetworkPolicy>(await built.manifests('minimal', others), 'NetworkPolicy');
  expect(JSON.stringify(closed.spec?.egress)).not.toContain('6443');
});

test('a pod is given the time its drain may take, and the margin', async () => {
  const graces = await Promise.all(
    CI.map(async (file) => {
      const manifests = await built.manifests(file);
      const { drain } = await settingsOf(manifests, file);
      return [gatewayPod(manifests).spec.terminationGracePeriodSeconds, (drain.delayMs + drain.timeoutMs) / 1000];
    }),
  );
  expect(graces).toEqual([
    [45, 35],
    [63, 53],
    [45, 35],
    [45, 35],
    [82, 61.5],
  ]);
});

describe('pods are restarted by what they cannot take over while they run', () => {
  const config = (values: object) => ({ config: values });
  const limits = (values: object) => config({ limits: values });
  const redis = (values: object) => config({ redis: values });
  const timeout = (text: string) => config({ upstreams: { core: { timeout: text } } });
  const fixed: readonly (readonly [options: string, file: CiFile, values: object])[] = [
    ['listen.traffic.host listen.admin.host', 'minimal', { listen: { host: '::' } }],
    ['listen.traffic.port', 'minimal', { listen: { trafficPort: 8081 } }],
    ['listen.admin.port', 'minimal', { listen: { adminPort: 9091 } }],
    ['listen.traffic.tls', 'minimal', { tls: { traffic: { secretName: 'pair' } } }],
    [
      'listen.traffic.tls listen.traffic.tls.clientAuth',
      'minimal',
      { tls: { traffic: { secretName: 'pair', clientAuth: 'required' } } },
    ],
    ['listen.admin.tls', 'minimal', { tls: { admin: { secretName: 'pair' } } }],
    ['listen.admin.tls.clientAuth', 'everything', { tls: { admin: { clientAuth: 'none', clientCaSecretName: '' } } }],
    ['redis', 'minimal', redis({ url: 'redis://redis' })],
    ['redis', 'valkey', redis({ timeout: '300ms' })],
    ['redis', 'valkey', redis({ prefix: 'other' })],
    ['redis', 'valkey', { secrets: { values: { 'redis-password': 'fake-next-password' } } }],
    ['stateDir', 'minimal', config({ stateDir: '/data' })],
    ['cache.memory', 'minimal', config({ cache: { memory: '64MiB' } })],
    ['cache.shared', 'valkey', config({ cache: { shared: false } })],
    ['idempotency.ttl', 'minimal', config({ idempotency: { ttl: '1h' } })],
    ['idempotency.memory', 'minimal', config({ idempotency: { memory: '1MiB' } })],
    ['limits.headers', 'minimal', limits({ headers: '64KiB' })],
    ['limits.headersTimeout', 'minimal', limits({ headersTimeout: '5s' })],
    ['limits.idleTimeout', 'minimal', limits({ idleTimeout: '90s' })],
    ['limits.failedAuth', 'minimal', limits({ failedAuth: 30 })],
    ['limits.requestsPerSecond', 'minimal', limits({ requestsPerSecond: 100 })],
    [
      'tracing.endpoint tracing.headers tracing.sample tracing.serviceName',
      'minimal',
      config({ tracing: { endpoint: 'http://collector:4318' } }),
    ],
    ['upstreams.core.timeout', 'valkey', timeout('2m')],
  ];
  test.each(fixed)('%s', async (options, file, values) => {
    const before = await built.manifests(file);
    const after = await built.manifests(file, values);
    const { needsRestart } = applicable(await settingsOf(before, file), await settingsOf(after, file));
    expect(needsRestart).toEqual(options.split(' '));
    expect(gatewayPod(after).meta.annotations).not.toEqual(gatewayPod(before).meta.annotations);
  });

  const reloaded: readonly (readonly [what: string, file: CiFile, values: object])[] = [
    ['a tenant', 'minimal', { tenants: { reporting: { keys: [] } } }],
    ['an account and its credentials', 'minimal', config({ accounts: { main: { quota: { ceiling: 200 } } } })],
    ['the rotated credential itself', 'minimal', { secrets: { values: { 'patchworks-api-key': 'fake-next-key' } } }],
    ['the admin token', 'minimal', { secrets: { values: { 'admin-token': 'fake-next-token' } } }],
    ['proxies', 'minimal', config({ listen: { trustedProxies: ['10.0.0.0/8'] } })],
    ['the oldest version of TLS', 'everything', { tls: { traffic: { minVersion: 'TLSv1.2' } } }],
    ['cache rules', 'minimal', config({ cache: { rules: [], maxEntry: '1MiB', maxDisconnectedAge: '1s' } })],
    ['routes', 'minimal', config({ routes: [{ match: '* /api/v1/**', upstream: 'core' }] })],
    ['a timeout, without Redis', 'minimal', timeout('2m')],
    ['limits of bodies', 'minimal', limits({ body: '1MiB', bufferedBody: '64KiB' })],
    ['how large a stored response may be', 'minimal', config({ idempotency: { maxResponse: '64KiB' } })],
    ['whether traces go on upstream', 'minimal', config({ tracing: { propagate: true } })],
    ['the level of the log', 'minimal', config({ log: { level: 'debug' } })],
  ];
  test.each(reloaded)('and not by %s', async (_, file, values) => {
    const before = await built.manifests(file);
    const after = await built.manifests(file, values);
    expect(applicable(await settingsOf(before, file), await settingsOf(after, file)).needsRestart).toEqual([]);
    expect(gatewayPod(after).spec).toEqual(gatewayPod(before).spec);
    expect(gatewayPod(after).meta).toEqual(gatewayPod(before).meta);
    expect(after).not.toEqual(before);
  });

  test("a variable that reads the chart's Secret is one of them: a process never sees it change", async () => {
    const before = await built.manifests('everything');
    const after = await built.manifests('everything', { secrets: { values: { 'other-key': 'fake-next-key' } } });
    expect(gatewayPod(after).meta.annotations).not.toEqual(gatewayPod(before).meta.annotations);
  });

  test('none of the options that the gateway keeps is left out above', () => {
    const covered = new Set(fixed.flatMap(([options]) => options.split(' ')));
    expect(RESTART_ONLY.map(([option]) => option).filter((option) => !covered.has(option))).toEqual([]);
  });
});
