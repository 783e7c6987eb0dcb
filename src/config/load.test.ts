import { describe, expect, test } from 'vitest';
import { loadSettings, renderProblems } from './load.ts';
import { redactedSettings } from './settings.ts';
import { tenantQuotaIn } from './tenant-accounts.ts';

const SHA = 'a'.repeat(64);
const ACCOUNTS = 'accounts: { main: { credentials: [{ id: primary, apiKey: "${PATCHWORKS_API_KEY}" }] } }';
const TENANTS = `tenants: { billing: { keys: [{ id: k1, sha256: ${SHA} }] } }`;
const MINIMAL = `${ACCOUNTS}\n${TENANTS}`;
const CANARY = 'canary-7f3d9-secret';

function load(text: string, more: { files?: Record<string, string>; env?: Record<string, string> } = {}) {
  const files: Record<string, string> = { 'gateway.yaml': text, ...more.files };
  return loadSettings({
    path: 'gateway.yaml',
    env: { PATCHWORKS_API_KEY: CANARY, ...more.env },
    readFile: async (path) => {
      const found = files[path] ?? files[path.replace(`${process.cwd()}/`, '')];
      if (found === undefined) throw Object.assign(new Error(`secret-laden message ${CANARY}`), { code: 'ENOENT' });
      return found;
    },
  });
}

async function settingsOf(...args: Parameters<typeof load>) {
  const loaded = await load(...args);
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}

async function rejectionOf(...args: Parameters<typeof load>): Promise<string> {
  const loaded = await load(...args);
  if (loaded.ok) throw new Error('the configuration was accepted');
  const text = renderProblems(loaded.problems);
  expect(text).not.toContain(CANARY);
  return text;
}

describe('a minimal configuration', () => {
  test('has the defaults for Patchworks', async () => {
    const settings = await settingsOf(MINIMAL);
    expect(settings.accounts.get('main')?.quota).toEqual({
      ...{ limit: 240, ceiling: 235, burst: 60, adoptLimit: true, coldStart: 'trust' },
    });
    expect(settings.upstreams.get('core')).toMatchObject({
      account: 'main',
      origin: 'https://core.wearepatchworks.com',
      timeoutMs: 30_000,
      retries: { max: 2, budgetPercent: 10 },
      maxInFlight: 128,
    });
    expect(settings.upstreams.get('start')?.breaker).toEqual({
      ...{ enabled: true, failurePercent: 50, minRequests: 10 },
      ...{ windowMs: 30_000, openMs: 5_000, maxOpenMs: 60_000 },
    });
    expect(settings.routes.map((route) => `${route.match.text} → ${route.upstream}`)).toEqual([
      'POST /api/v1/flows/*/start/** → start',
      'POST /api/v1/flows/*/manual/** → start',
      'GET /api/v1/payload-metadata/*/download → core',
      '* /api/v1/** → core',
    ]);
    expect(settings.tenants.get('billing')).toMatchObject({
      accounts: ['main'],
      allow: null,
      quota: { rate: null, burst: null },
    });
    expect(settings.limits).toEqual({
      bodyBytes: 10485760,
      bufferedBodyBytes: 1048576,
      bufferedTotalBytes: 67108864,
      stallTimeoutMs: 30000,
      failedAuth: 20,
      requestsPerSecond: 2000,
      headersBytes: 32768,
      headersTimeoutMs: 10_000,
      idleTimeoutMs: 75_000,
    });
    expect(settings.listen.admin).toEqual({
      host: '127.0.0.1',
      port: 9090,
      token: null,
      tokens: [],
      name: '',
      runbookBaseUrl: null,
      tls: null,
    });
  });

  test('may be JSON', async () => {
    const text = JSON.stringify({
      accounts: { main: { credentials: [{ id: 'p', apiKey: 'x' }] } },
      tenants: { a: {} },
    });
    expect((await settingsOf(text)).tenants.size).toBe(1);
  });

  test('takes its tenants from a file beside it', async () => {
    const settings = await settingsOf(ACCOUNTS, { files: { 'tenants.yaml': TENANTS } });
    expect([...settings.tenants.keys()]).toEqual(['billing']);
    const elsewhere = await settingsOf(`${ACCOUNTS}\ntenantsFile: sub/t.yaml`, { files: { 'sub/t.yaml': TENANTS } });
    expect(elsewhere.tenants.size).toBe(1);
    const absolute = await settingsOf(`${ACCOUNTS}\ntenantsFile: /etc/t.yaml`, { files: { '/etc/t.yaml': TENANTS } });
    expect(absolute.tenants.size).toBe(1);
  });
});

describe('every option has an effect on the settings', () => {
  test.each([
    [
      'listen: { traffic: { host: 127.0.0.1, port: 1 } }',
      (s) => s.listen.traffic,
      { host: '127.0.0.1', port: 1, tls: null },
    ],
    [
      'listen: { admin: { tokens: [{ id: prometheus, token: fake-token, role: metrics }] } }',
      (s) => [
        s.listen.admin.tokens.map(({ id, token, role }) => [id, token.reveal(), role]),
        s.secrets.map((each) => each.reveal()).includes('fake-token'),
      ],
      [[['prometheus', 'fake-token', 'metrics']], true],
    ],
    [
      'listen: { admin: { name: production, runbookBaseUrl: "https://git.test/a/" } }',
      (s) => [s.listen.admin.name, s.listen.admin.runbookBaseUrl],
      ['production', 'https://git.test/a'],
    ],
    ['listen: { trustedProxies: [10.0.0.0/8] }', (s) => s.listen.trustedProxies, ['10.0.0.0/8']],
    ['cache: { memory: 1MiB, maxEntry: 4KiB }', (s) => [s.cache.memoryBytes, s.cache.maxEntryBytes], [1048576, 4096]],
    [
      'limits: { body: 2MiB, bufferedBody: 8KiB, bufferedTotal: 1MiB, headers: 16KiB, failedAuth: 3, requestsPerSecond: 9, headersTimeout: 3s, stallTimeout: 7s, idleTimeout: 9s }',
      (s) => s.limits,
      {
        bodyBytes: 2097152,
        bufferedBodyBytes: 8192,
        bufferedTotalBytes: 1048576,
        stallTimeoutMs: 7000,
        headersBytes: 16384,
        failedAuth: 3,
        requestsPerSecond: 9,
        headersTimeoutMs: 3000,
        idleTimeoutMs: 9000,
      },
    ],
    ['drain: { delay: 250ms, timeout: 2m }', (s) => s.drain, { delayMs: 250, timeoutMs: 120_000 }],
    ['reload: { watch: false, poll: 2m }', (s) => s.reload, { watch: false, pollMs: 120_000 }],
    ['log: { level: debug }', (s) => s.log, { level: 'debug', access: null }],
    ['log: { access: errors }', (s) => s.log.access, 'errors'],
    ['problems: {}', (s) => s.problems, { typePrefix: 'urn:patchgate:problem:', contact: null }],
    [
      'problems: { baseUrl: "https://docs.test/p", contact: team }',
      (s) => s.problems,
      { typePrefix: 'https://docs.test/p/', contact: 'team' },
    ],
    ['problems: { baseUrl: "https://docs.test/p#" }', (s) => s.problems.typePrefix, 'https://docs.test/p#'],
    ['drain: {}', (s) => s.tracing, { exporter: null, propagate: true }],
    ['tracing: {}', (s) => s.tracing, { exporter: null, propagate: false }],
    ['tracing: { propagate: true }', (s) => s.tracing.propagate, true],
    [
      'tracing: { endpoint: "http://c:4318/v1/traces", sample: 0.5, serviceName: s }',
      (s) => s.tracing.exporter,
      { endpoint: 'http://c:4318/v1/traces', headers: new Map(), sample: 0.5, serviceName: 's' },
    ],
    [
      'tracing: { endpoint: "http://c" }',
      (s) => [s.tracing.exporter?.sample, s.tracing.exporter?.serviceName],
      [0.1, 'patchgate'],
    ],
    [
      'tracing: { endpoint: "http://c", headers: { x-key: fake-collector-key, x-org: a } }',
      (s) => [
        [...(s.tracing.exporter?.headers ?? [])].map(([name, value]) => [name, value.reveal()]),
        s.secrets.map((each) => each.reveal()).includes('a'),
      ],
      [
        [
          ['x-key', 'fake-collector-key'],
          ['x-org', 'a'],
        ],
        false,
      ],
    ],
    [
      'redis: { url: "redis://redis:6380/3", timeout: 200ms, replicaGrace: 30s, onOutage: closed, prefix: p }',
      (s) => s.redis,
      {
        servers: { kind: 'alone', host: 'redis', port: 6380, db: 3 },
        username: null,
        password: null,
        sentinelPassword: null,
        tls: null,
        prefix: 'p',
        onOutage: 'closed',
        timeoutMs: 200,
        replicaGraceMs: 30_000,
      },
    ],
    [
      'redis: { sentinels: ["a:26379", "[::1]:26380"], name: mymaster }',
      (s) => s.redis?.servers,
      {
        kind: 'sentinel',
        sentinels: [
          { host: 'a', port: 26379 },
          { host: '::1', port: 26380 },
        ],
        name: 'mymaster',
      },
    ],
    [
      'redis: { cluster: ["a:1", "b:2"] }',
      (s) => s.redis?.servers,
      {
        kind: 'cluster',
        nodes: [
          { host: 'a', port: 1 },
          { host: 'b', port: 2 },
        ],
      },
    ],
    [
      'redis: { url: "rediss://localhost", tls: { servername: x } }',
      (s) => s.redis?.tls,
      { ca: null, cert: null, key: null, servername: 'x' },
    ],
    [
      'redis: { url: "redis://user:fake%2Fpassword@localhost" }',
      (s) => [
        s.redis?.username,
        s.redis?.password?.reveal(),
        s.secrets.map((secret) => secret.reveal()).includes('fake/password'),
      ],
      ['user', 'fake/password', true],
    ],
    [
      'upstreams: { core: { origin: "http://127.0.0.1:9", timeout: 1s } }',
      (s) => [s.upstreams.get('core')?.account, s.upstreams.get('core')?.origin, s.upstreams.get('core')?.timeoutMs],
      ['main', 'http://127.0.0.1:9', 1000],
    ],
    [
      'upstreams: { core: { retries: { max: 1, budget: 5 }, maxInFlight: 7 } }',
      (s) => [s.upstreams.get('core')?.retries, s.upstreams.get('core')?.maxInFlight],
      [{ max: 1, budgetPercent: 5 }, 7],
    ],
    [
      'upstreams: { core: { breaker: { enabled: false, failurePercent: 20, minRequests: 5, window: 1m, open: 2s, maxOpen: 1s } } }',
      (s) => s.upstreams.get('core')?.breaker,
      { enabled: false, failurePercent: 20, minRequests: 5, windowMs: 60_000, openMs: 2_000, maxOpenMs: 2_000 },
    ],
    [
      'routes: [{ match: "GET /x", upstream: core, rewriteLinks: false }]',
      (s) => s.routes.map((r) => [r.match.text, r.upstream, r.rewriteLinks]),
      [['GET /x', 'core', false]],
    ],
    [
      'upstreams: { inner: { origin: "https://patchworks.test" } }\nroutes: [{ match: "GET /x", upstream: inner }]',
      (s) => s.routes.map((r) => r.rewriteLinks),
      [true],
    ],
    [
      'cache: { rules: [{ match: "GET /x", ttl: 5s }, { match: "GET /y", store: false }] }',
      (s) => s.cache.rules.map((r) => (r.store ? r.ttlMs : false)),
      [5000, false],
    ],
    [
      'cache: { rules: [{ match: "GET /x", ttl: 5s, unless: { include: [variables, flow_runs] } }, { match: "GET /y", ttl: 5s }] }',
      (s) => s.cache.rules.map((r) => r.store && r.unless),
      [{ include: ['variables', 'flow_runs'] }, {}],
    ],
    [
      'cache: { invalidate: [{ after: "POST /x", drop: [/y/**] }] }',
      (s) => s.cache.invalidate.map((i) => [i.after.text, i.drop]),
      [['POST /x', ['/y/**']]],
    ],
  ] as [string, (settings: Awaited<ReturnType<typeof settingsOf>>) => unknown, unknown][])(
    '%s',
    async (line, pick, expected) => {
      expect(pick(await settingsOf(`${MINIMAL}\n${line}`))).toEqual(expected);
    },
  );

  test('LOG_LEVEL overrides the file', async () => {
    expect((await settingsOf(`${MINIMAL}\nlog: { level: debug }`, { env: { LOG_LEVEL: 'error' } })).log.level).toBe(
      'error',
    );
    expect(await rejectionOf(MINIMAL, { env: { LOG_LEVEL: 'loud' } })).toContain(
      'LOG_LEVEL: must be one of trace, debug',
    );
  });
});

describe('interpolation', () => {
  const withKey = (value: string) => `accounts: { main: { credentials: [{ id: p, apiKey: '${value}' }] } }\n${TENANTS}`;
  const keyOf = async (value: string, more = {}) => {
    const [credential] = (await settingsOf(withKey(value), more)).accounts.get('main')!.credentials;
    return credential?.kind === 'apiKey' ? credential.apiKey.reveal() : null;
  };

  test.each([
    ['${PATCHWORKS_API_KEY}', CANARY],
    ['a-${PATCHWORKS_API_KEY}-b', `a-${CANARY}-b`],
    ['${UNSET_VARIABLE:-fallback:-x}', 'fallback:-x'],
    ['${EMPTY:-fallback}', 'fallback'],
    ['$${PATCHWORKS_API_KEY}', '${PATCHWORKS_API_KEY}'],
    ['${file:key.txt}', 'from: "a file"'],
    ['${ODD}', 'a: [b, "c'],
  ])('%s', async (written, expected) => {
    expect(
      await keyOf(written, { env: { EMPTY: '', ODD: 'a: [b, "c' }, files: { 'key.txt': 'from: "a file"\n' } }),
    ).toBe(expected);
  });

  test('a missing variable, an unreadable file and a malformed placeholder are named, with their line', async () => {
    expect(await rejectionOf(withKey('${NOT_THERE}'))).toContain(
      'gateway.yaml:1: accounts.main.credentials[0].apiKey: the environment variable NOT_THERE is not set',
    );
    expect(await rejectionOf(withKey('${file:/nowhere/key}'))).toContain(
      'cannot read the file /nowhere/key (no such file)',
    );
    expect(await rejectionOf(withKey('${a b}'))).toContain('malformed placeholder');
  });
});

describe('a wrong configuration', () => {
  test('is rejected with all problems at once: file, line, path, and what is allowed', async () => {
    const text = `
listen:
  traffic: { prot: 8080 }
accounts:
  main:
    quota: { limit: 240, ceiling: many }
    credentials:
      - { id: primary, apiKey: x }
upstreams:
  core: { origin: https://core.example.test/path }
limits:
  bdy: 10MiB
  headersTimeout: 10
tenants:
  billing:
    keys: [{ id: k1, sha256: abc }]
`;
    expect(await rejectionOf(text)).toBe(
      [
        'gateway.yaml:3: listen.traffic.prot: unknown option; did you mean "port"?',
        'gateway.yaml:6: accounts.main.quota.ceiling: must be a whole number from 1 to 10000000',
        'gateway.yaml:10: upstreams.core.origin: must be an origin: http or https, host and port, without path, query or credentials',
        'gateway.yaml:12: limits.bdy: unknown option; did you mean "body"?',
        'gateway.yaml:13: limits.headersTimeout: must be a duration such as 250ms, 30s, 5m or 24h',
        'gateway.yaml:16: tenants.billing.keys[0].sha256: must be 64 hexadecimal digits: `patchgate key hash` makes them',
        '6 problems in the configuration; nothing was started',
      ].join('\n'),
    );
  });

  test.each([
    ['', 'is empty'],
    ['- a', 'must be a map'],
    ['a: [1', 'is not valid YAML'],
    [
      `log: { level: info }\nlog: { level: info }\n${MINIMAL}`,
      'the key "log" is in this map twice, and first on line 1',
    ],
    [TENANTS, 'accounts: is required'],
    [
      `${ACCOUNTS}\ntenants:\n  billing:\n  keys: []`,
      'tenants.billing: must be a map of options, and is empty: indent the lines that belong to it further',
    ],
    [`${ACCOUNTS}\ntenants:\nbilling: {}`, 'tenants: must be a map of tenants, and is empty: indent'],
    [`${ACCOUNTS}\ntenants: { a: { allow: } }`, 'allow: must be a list, and is empty: indent'],
    [
      `${ACCOUNTS}\ntenants: { a: { keys: [{ id: k, sha256: pgk_a_canary }] } }`,
      'keys[0].sha256: must be 64 hexadecimal digits: `patchgate key hash` makes them. This looks like the key itself',
    ],
    [`accounts: {}\n${TENANTS}`, 'must name at least one account'],
    [`accounts: { main: { credentials: [] } }\n${TENANTS}`, 'at least one credential'],
    [`accounts: { main: { credentials: [{ id: a }] } }\n${TENANTS}`, 'credentials[0].apiKey: is required'],
    [
      `accounts: { main: { credentials: [{ id: a, apiKey: x }, { id: a, apiKey: y }] } }\n${TENANTS}`,
      'this id is there twice',
    ],
    [
      `accounts: { main: { quota: { ceiling: 240 }, credentials: [{ id: a, apiKey: x }] } }\n${TENANTS}`,
      'must be below the limit (240)',
    ],
    [
      `accounts: { main: { quota: { burst: 0 }, credentials: [{ id: a, apiKey: x }] } }\n${TENANTS}`,
      'must be at least 1',
    ],
    [
      `accounts: { main: { quota: { coldStart: hope }, credentials: [{ id: a, apiKey: x }] } }\n${TENANTS}`,
      'accounts.main.quota.coldStart: must be trust or wait',
    ],
    [`${ACCOUNTS}\ntenants: { a: { quota: { rate: 0 } } }`, 'rate: must be above 0'],
    [`${ACCOUNTS}\ntenants: { a: { quota: { rate: -5 } } }`, 'rate: must be above 0'],
    [`${ACCOUNTS}\ntenants: { a: { quota: { burst: 0 } } }`, 'must be at least 1'],
    [
      `${ACCOUNTS}\ntenants: { a: { quota: { reserved: 200 } }, b: { quota: { reserved: 36 } } }`,
      'tenants.b.quota.reserved: brings the reserved rates of account "main" to 236, above its ceiling of 235',
    ],
    [`${ACCOUNTS}\ntenants: { a: { account: other } }`, 'there is no such account; known are main'],
    [`${ACCOUNTS}\ntenants: { A b: {} }`, 'must be a name: lower-case'],
    [`${ACCOUNTS}\ntenants: { a: { allow: ["get /x"] } }`, 'in capitals'],
    [
      `${ACCOUNTS}\ntenants: { a: { keys: [{ id: k, sha256: ${SHA}, expires: 2027-05-31 }] } }`,
      'a date and time with zone',
    ],
    [
      `${ACCOUNTS}\ntenants: { a: { keys: [{ id: k, sha256: ${SHA} }] }, b: { keys: [{ id: k, sha256: ${SHA.toUpperCase()} }] } }`,
      'tenants.b.keys[0].sha256: is the key of "a" as well',
    ],
    [
      `${ACCOUNTS}\ntenants: { a: { keys: [{ id: k, sha256: ${SHA}, cidrs: [10.0.0.0/8, 10.0.0.1] }] } }`,
      'tenants.a.keys[0].cidrs[1]: must be a CIDR such as 10.0.0.0/8',
    ],
    [
      `${ACCOUNTS}\ntenants: { a: { keys: [{ id: k, sha256: ${SHA}, cidrs: [] }] } }`,
      'cidrs: must name at least one range, or be left out',
    ],
    [
      `${ACCOUNTS}\ntenants: { a: { keys: [{ id: k, sha256: ${SHA}, allow: ["get /x"] }] } }`,
      'tenants.a.keys[0].allow[0]: "get" is not a method',
    ],
    [ACCOUNTS, 'tenants.yaml: cannot be read: no such file'],
  ])('%j is rejected: %s', async (text, reason) => {
    expect(await rejectionOf(text)).toContain(reason);
  });

  test.each([
    ['routes: [{ match: "GET /x", upstream: cor }]', 'there is no such upstream; known are core, start'],
    ['upstreams: { core: { retries: { max: 3 } } }', 'upstreams.core.retries.max: must be at most 2'],
    ['upstreams: { core: { maxInFlight: 0 } }', 'upstreams.core.maxInFlight: must be at least 1'],
    ['upstreams: { core: { breaker: { failurePercent: 0 } } }', 'breaker.failurePercent: must be at least 1'],
    ['upstreams: { core: { breaker: { open: 0s } } }', 'breaker.open: must be from 10ms to 1h'],
    ['upstreams: { other: {} }', 'upstreams.other: needs an origin'],
    ['redis: {}', 'redis: needs exactly one of url, sentinels and cluster'],
    ['redis: { url: "redis://a", cluster: ["b:1"] }', 'needs exactly one of url, sentinels and cluster'],
    ['redis: { url: "http://a" }', 'redis.url: must be redis://'],
    ['redis: { url: "redis://a/x" }', 'redis.url: must be redis://'],
    ['redis: { sentinels: ["a:1"] }', 'redis.sentinels: needs name'],
    ['redis: { cluster: ["a:1"], name: m }', 'redis.name: needs sentinels'],
    ['redis: { cluster: [a] }', 'must be host:port'],
    ['redis: { cluster: [] }', 'must not be empty'],
    ['redis: { url: "redis://u:fake@a", password: fake }', 'redis.password: the url has a password too'],
    ['redis: { url: "redis://a", sentinelPassword: fake }', 'needs sentinels'],
    ['redis: { url: "redis://a", tls: { cert: c } }', 'redis.tls: needs both cert and key'],
    ['redis: { url: "redis://a", prefix: "{x}" }', 'redis.prefix: must be 1 to 64'],
    ['redis: { url: "redis://a", onOutage: open }', 'redis.onOutage: must be local or closed'],
    ['redis: { url: "redis://a", timeout: 1ms }', 'redis.timeout: must be from 10ms to 5s'],
    ['redis: { url: "redis://a", replicaGrace: 1s }', 'redis.replicaGrace: must be from 10s to 1h'],
    ['redis: { urll: "redis://a" }', 'did you mean "url"?'],
    ['tenantsFile: tenants.yaml', 'either tenants or tenantsFile'],
    ['listen: { trustedProxies: [10.0.0.1] }', 'must be a CIDR'],
    ['listen: { traffic: { port: 65536 } }', 'must be at most 65535'],
    ['limits: { body: 10MB }', 'must be a size such as 64KiB'],
    ['drain: { delay: 2h }', 'must be from 0ms to 1h'],
    ['cache: { rules: [{ match: "GET /x" }] }', 'cache.rules[0]: needs either ttl or store: false'],
    ['cache: { rules: [{ match: "GET /x", ttl: 1s, store: false }] }', 'needs either ttl or store: false'],
    ['cache: { rules: [{ match: "GET /x", tll: 5s }] }', 'did you mean "ttl"?'],
    [
      'cache: { rules: [{ match: "GET /x", store: false, unless: { include: [a] } }] }',
      'cache.rules[0].unless: belongs to a rule with a ttl',
    ],
    [
      'cache: { rules: [{ match: "GET /x", ttl: 1s, unless: { include: [a.variables] } }] }',
      'cache.rules[0].unless.include[0]: must be one name, such as variables',
    ],
    ['cache: { rules: [{ match: "GET /x", ttl: 1s, unless: { include: ["a,b"] } }] }', 'must be one name'],
    [
      'cache: { rules: [{ match: "GET /x", ttl: 1s, unless: { include: [] } }] }',
      'cache.rules[0].unless.include: must name a value',
    ],
    ['cache: { rules: [{ match: "GET /x", ttl: 1s, unless: { include: variables } }] }', 'unless.include: must be'],
    ['cache: { rules: [{ match: "GET /x", ttl: 1s, unless: { "include[]": [a] } }] }', 'without brackets'],
    ['tracing: { endpoint: "otel:4318" }', 'tracing.endpoint: must be an http or https URL'],
    ['tracing: { endpoint: "http://u:fake@c" }', 'tracing.endpoint: must be an http or https URL without'],
    ['tracing: { sample: 10 }', 'tracing.sample: must be at most 1'],
    ['tracing: { endpoint: "http://c", headers: { "a b": x } }', 'must be the name of a header'],
    ['tracing: { endpoint: "http://c", headers: { a: "x\\ny" } }', 'tracing.headers.a: must be printable ASCII'],
    ['tracing: { headers: { a: x } }', 'tracing.headers: needs an endpoint'],
    ['tracing: { propagate: yes please }', 'tracing.propagate: must be true or false'],
    ['tracing: { serviceName: "" }', 'tracing.serviceName: must not be empty'],
    ['tracing: { endpiont: "http://c" }', 'did you mean "endpoint"?'],
  ])('a line %j is rejected: %s', async (line, reason) => {
    expect(await rejectionOf(`${MINIMAL}\n${line}`)).toContain(reason);
  });

  const LONG = 'x'.repeat(8_193);
  const keyed = (apiKey: string) =>
    `accounts: { main: { credentials: [{ id: p, apiKey: ${JSON.stringify(apiKey)} }] } }\ntenants: { a: {} }`;
  const login = (password: string) =>
    `accounts: { main: { credentials: [{ id: p, login: { url: "http://h", username: u, password: ${password} } }] } }\ntenants: { a: {} }`;
  const tokens = (list: string, token = '') =>
    `${MINIMAL}\nlisten: { admin: { token: "${token}", tokens: [${list}] } }`;
  const HEADER = 'must be printable ASCII in one line, without spaces around it';
  test.each([
    [keyed(LONG), 'apiKey: must be at most 8KiB: is it the right file?'],
    [keyed('a\nb'), `apiKey: ${HEADER}`],
    [keyed('key\n'), `apiKey: ${HEADER}`],
    [keyed(' key'), `apiKey: ${HEADER}`],
    [keyed('ключ'), `apiKey: ${HEADER}`],
    [keyed('a\0b'), `apiKey: ${HEADER}`],
    [login(LONG), 'password: must be at most 8KiB'],
    [login('ä'.repeat(4_097)), 'password: must be at most 8KiB'],
    [
      `${MINIMAL}\nlisten: { admin: { token: ${LONG} } }`,
      'token: must be printable ASCII without spaces, at most 8KiB',
    ],
    [`${MINIMAL}\nlisten: { admin: { token: "two words" } }`, 'token: must be printable ASCII without spaces'],
    [tokens('{ id: a, token: "two words", role: read }'), 'token: must be printable ASCII without spaces'],
    [tokens('{ id: a, token: "", role: read }'), 'tokens[0].token: must not be empty: remove the entry instead'],
    [tokens('{ id: a, token: t, role: admin }'), 'tokens[0].role: must be one of metrics, read, operate'],
    [tokens('{ id: file, token: t, role: read }'), 'tokens[0].id: must not be one of anonymous, unknown, file, signal'],
    [tokens('{ id: admin, token: t, role: read }', 'main-token'), 'tokens[0].id: this id is there twice'],
    [
      tokens('{ id: a, token: t, role: read }, { id: a, token: u, role: read }'),
      'tokens[1].id: this id is there twice',
    ],
    [tokens('{ id: a, token: main-token, role: read }', 'main-token'), 'tokens[0].token: this token is there twice'],
    [`${MINIMAL}\nredis: { url: "redis://h", password: ${LONG} }`, 'redis.password: must be at most 8KiB'],
    [`${MINIMAL}\nredis: { url: "redis://u:${LONG}@h" }`, 'redis.url: must be redis://'],
    [
      `${MINIMAL}\ntracing: { endpoint: "http://c", headers: { a: ${LONG} } }`,
      'tracing.headers.a: must be at most 8KiB',
    ],
  ])('a secret that cannot be one is rejected: %#', async (text, reason) => {
    expect(await rejectionOf(text)).toContain(reason);
  });

  test('of a secret as long as one may be is accepted', async () => {
    const text = keyed('x'.repeat(8_192));
    const loaded = await loadSettings({ path: 'gateway.yaml', env: {}, readFile: async () => text });
    expect(loaded.ok).toBe(true);
  });

  test('without a file is one clear line', async () => {
    const loaded = await loadSettings({ path: '/nowhere/gateway.yaml', env: {} });
    expect(!loaded.ok && renderProblems(loaded.problems)).toBe(
      '/nowhere/gateway.yaml: cannot be read: no such file\n1 problem in the configuration; nothing was started',
    );
  });

  test('is reported without secrets, wherever a secret stands', async () => {
    for (const place of [
      'log: { level: "${PATCHWORKS_API_KEY}" }',
      'limits: { body: "${PATCHWORKS_API_KEY}" }',
      'upstreams: { core: { origin: "${PATCHWORKS_API_KEY}" } }',
      'routes: [{ match: "GET /x", upstream: "${PATCHWORKS_API_KEY}" }]',
      'routes: [{ match: "${PATCHWORKS_API_KEY}", upstream: core }]',
      'listen: { trustedProxies: ["${PATCHWORKS_API_KEY}"] }',
      `drain: "unclosed ${CANARY}`,
    ]) {
      await rejectionOf(`${MINIMAL}\n${place}`);
    }
  });
});

test('tenants with equal permissions share one list', async () => {
  const tenants = Array.from(
    { length: 100 },
    (_, i) => `  t${i}: { allow: ["GET /api/v1/**", "POST /api/v1/pool/**"] }`,
  );
  const loaded = await load(`${ACCOUNTS}\ntenants:\n${tenants.join('\n')}`);
  const lists = loaded.ok ? [...loaded.settings.tenants.values()].map(({ allow }) => allow) : [];
  expect([lists.length, new Set(lists).size]).toEqual([100, 1]);
});

describe('secrets', () => {
  const text = `
listen: { admin: { token: "\${file:token}" } }
accounts:
  main:
    credentials:
      - { id: primary, apiKey: "\${PATCHWORKS_API_KEY}" }
      - { id: spare, login: { url: "https://id.example.test/login", username: u, password: "\${file:password}" } }
${TENANTS}`;
  const files = { token: 'admin-canary-1', password: 'password-canary-2\n' };

  test('are known to redaction and print as a mask', async () => {
    const settings = await settingsOf(text, { files });
    const known = settings.secrets.map((secret) => secret.reveal());
    expect(known).toEqual(expect.arrayContaining([CANARY, 'admin-canary-1', 'password-canary-2']));
    for (const printed of [
      JSON.stringify(settings),
      JSON.stringify(redactedSettings(settings)),
      `${settings.secrets}`,
    ]) {
      expect(printed).not.toMatch(/canary/);
    }
    expect(JSON.stringify(redactedSettings(settings))).not.toContain(SHA);
    expect(redactedSettings(settings)).toMatchObject({
      accounts: { main: { credentials: [{ apiKey: '[secret]' }, {}] } },
    });
  });

  test('do not change the revision, which depends on the files alone', async () => {
    const one = await settingsOf(text, { files });
    const other = await settingsOf(text, { files: { ...files, token: 'another' } });
    expect(one.revision).toBe(other.revision);
    expect((await settingsOf(`${text}\n# changed`, { files })).revision).not.toBe(one.revision);
  });
});

describe('a tenant bursts', () => {
  test.each([
    ['like its account, without a rate of its own', '{}', '{}', 60],
    ['like its account, as far as the ceiling allows', '{ burst: 300 }', '{}', 235],
    ['20 requests with a rate of its own', '{}', '{ rate: 30 }', 20],
    ['as it says', '{ burst: 300 }', '{ rate: 30, burst: 7 }', 7],
  ])('%s', async (_, account, tenant, burst) => {
    const loaded = await load(
      `${ACCOUNTS.replace('main: {', `main: { quota: ${account},`)}\ntenants: { a: { quota: ${tenant} } }`,
    );
    if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
    const { tenants, accounts } = loaded.settings;
    expect(tenantQuotaIn(tenants.get('a')!, accounts.get('main')!).burst).toBe(burst);
  });
});

test('keys that cannot work are named in a warning', async () => {
  const loaded = await load(`${ACCOUNTS}
tenants: { a: { quota: { weight: 2 } }, b: { keys: [{ id: old, sha256: ${SHA}, expires: 2001-01-01T00:00:00Z }] } }
listen: { admin: { host: 0.0.0.0 } }`);
  expect(loaded.ok && loaded.warnings).toEqual([
    'tenants.a has neither key nor identity: no caller can use this tenant',
    'tenants.b: the key old has expired',
    'listen.admin is reachable from other hosts and has no token',
  ]);
});
