import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Chart, type CiFile, chart } from '../support/helm.ts';

let built: Chart;
beforeAll(async () => {
  built = await chart();
});
afterAll(() => built[Symbol.asyncDispose]());

async function refusal(file: CiFile | null, values: object): Promise<string> {
  const rendered = await built.render(file, values);
  if (rendered.ok) throw new Error('was rendered all the same');
  return rendered.error;
}

describe('values.schema.json refuses, and says where', () => {
  const KEY = { id: 'now', sha256: 'a'.repeat(64) };
  const cases: readonly (readonly [what: string, values: object, message: string])[] = [
    ['a value that is misspelt', { replicaCont: 2 }, "at '': additional properties 'replicaCont' not allowed"],
    ['one inside of another', { image: { repo: 'x' } }, "at '/image': additional properties 'repo' not allowed"],
    ['no replica', { replicaCount: 0 }, "at '/replicaCount': minimum: got 0, want 1"],
    ['half a replica', { replicaCount: 1.5 }, "at '/replicaCount': got number, want integer"],
    ['a text where a flag belongs', { admin: { auth: 'no' } }, "at '/admin/auth': got string, want boolean"],
    ['a digest without its algorithm', { image: { digest: 'abc' } }, "at '/image/digest': 'abc' does not match"],
    [
      'a repository with a tag in it',
      { image: { repository: 'a/b:1' } },
      "at '/image/repository': 'a/b:1' does not match",
    ],
    [
      'a Service of no known type',
      { service: { type: 'clusterip' } },
      "at '/service/type': value must be one of 'ClusterIP'",
    ],
    [
      'a port for the privileged',
      { listen: { trafficPort: 80 } },
      "at '/listen/trafficPort': minimum: got 80, want 1,024",
    ],
    ['an empty secret', { secrets: { values: { 'admin-token': '' } } }, "at '/secrets/values/admin-token': minLength"],
    [
      'a secret that YAML takes for a number',
      { secrets: { values: { pin: 12 } } },
      "at '/secrets/values/pin': got number, want string",
    ],
    ['a quantity in other units', { resources: { limits: { memory: '512MB' } } }, "at '/resources/limits/memory'"],
    [
      'a resource that is misspelt',
      { resources: { limit: {} } },
      "at '/resources': additional properties 'limit' not allowed",
    ],
    ['a level that is none', { logLevel: 'verbose' }, "at '/logLevel': value must be one of '', 'trace'"],
    [
      'a budget that lets no node drain',
      { podDisruptionBudget: { maxUnavailable: 0 } },
      "at '/podDisruptionBudget/maxUnavailable'",
    ],
    [
      'a probe of the chart made another',
      { probes: { liveness: { httpGet: {} } } },
      "at '/probes/liveness': additional properties 'httpGet' not allowed",
    ],
    [
      'a namespace that can be none',
      { networkPolicy: { traffic: { namespaces: ['Billing'] } } },
      "at '/networkPolicy/traffic/namespaces/0'",
    ],
    ['a host with a scheme', { ingress: { hosts: ['https://a.test'] } }, "at '/ingress/hosts/0'"],
    [
      'an option the gateway does not have',
      { config: { limits: { bdy: '1MiB' } } },
      "at '/config/limits': additional properties 'bdy' not allowed",
    ],
    [
      'an option of the gateway of another type',
      { config: { drain: { delay: 5 } } },
      "at '/config/drain/delay': got number, want string",
    ],
    [
      'a quota above all reason',
      { config: { accounts: { main: { quota: { limit: 1 } } } } },
      "at '/config/accounts/main/quota/limit': minimum",
    ],
    [
      'a credential without its id',
      { config: { accounts: { main: { credentials: [{ apiKey: 'x' }] } } } },
      "missing property 'id'",
    ],
    [
      'what the chart sets itself',
      { config: { listen: { admin: { host: '::' } } } },
      "at '/config/listen': additional properties 'admin' not allowed",
    ],
    [
      'tenants in the wrong place',
      { config: { tenants: {} } },
      "at '/config': additional properties 'tenants' not allowed",
    ],
    [
      'a key that is no digest',
      { tenants: { billing: { keys: [{ ...KEY, sha256: 'abc' }] } } },
      "at '/tenants/billing/keys/0/sha256'",
    ],
    [
      'a date without a time',
      { tenants: { billing: { keys: [{ ...KEY, expires: '2027-05-31' }] } } },
      "at '/tenants/billing/keys/0/expires'",
    ],
    ['a tenant in capitals', { tenants: { Billing: {} } }, "invalid propertyName 'Billing'"],
  ];
  test.each(cases)('%s', async (_, values, message) => {
    expect(await refusal('minimal', values)).toContain(message);
  });

  test('but not what is filled in when the gateway loads', async () => {
    const values = {
      config: { redis: { url: 'redis://r', prefix: '${PREFIX:-gate}', username: '${file:/etc/user}' } },
    };
    expect(await built.render('minimal', values)).toMatchObject({ ok: true });
  });
});

describe('what lies between values is refused in words', () => {
  const cases: readonly (readonly [what: string, file: CiFile | null, values: object, message: RegExp])[] = [
    ['no image', null, {}, /image\.repository: say where your build of the image is kept/],
    ['no account', null, { image: { repository: 'a' } }, /config\.accounts: name at least one Patchworks account/],
    ['no tenant', 'minimal', { tenants: null }, /tenants: name at least one tenant, or a ConfigMap/],
    [
      'tenants twice',
      'minimal',
      { tenantsConfigMap: 'x' },
      /tenantsConfigMap: give either tenants or tenantsConfigMap/,
    ],
    [
      'several replicas that count each for itself',
      'minimal',
      { replicaCount: 2 },
      /replicaCount: several replicas need config\.redis or valkey\.enabled\. Without, each counts for itself and sends a whole ceiling/,
    ],
    [
      'the same by autoscaling',
      'minimal',
      { autoscaling: { enabled: true } },
      /autoscaling\.enabled: several replicas need config\.redis/,
    ],
    [
      'autoscaling upside down',
      'ha',
      { autoscaling: { minReplicas: 9, maxReplicas: 3 } },
      /autoscaling\.minReplicas: is above maxReplicas/,
    ],
    [
      'options of Redis, but no Redis',
      'minimal',
      { config: { redis: { onOutage: 'local' } } },
      /config\.redis: needs one of url, sentinels and cluster, or valkey\.enabled/,
    ],
    [
      'two Redis',
      'valkey',
      { config: { redis: { url: 'redis://other' } } },
      /valkey\.enabled: sets url and password of config\.redis/,
    ],
    [
      'an open admin port by omission',
      'minimal',
      { secrets: { values: null } },
      /secrets\.values\.admin-token: the admin port listens on the pod's network and needs a token/,
    ],
    [
      'a token from a file that is not there',
      'minimal',
      { admin: { tokens: [{ id: 'team', token: '${file:/run/secrets/patchgate/team}', role: 'read' }] } },
      /secrets\.values: has no key "team"/,
    ],
    [
      'Valkey without a password',
      'minimal',
      { valkey: { enabled: true } },
      /secrets\.values\.redis-password: Valkey needs a password/,
    ],
    [
      'secrets twice',
      'minimal',
      { secrets: { existingSecret: 'x' } },
      /secrets\.values: give either existingSecret or values/,
    ],
    [
      'a file that no key makes',
      'minimal',
      {
        config: { accounts: { main: { credentials: [{ id: 'a', apiKey: '${file:/run/secrets/patchgate/other}' }] } } },
      },
      /secrets\.values: has no key "other", but the configuration reads \/run\/secrets\/patchgate\/other/,
    ],
    [
      'a variable that nothing sets',
      'minimal',
      { config: { redis: { url: 'redis://:${REDIS_PASSWORD}@r' } } },
      /extraEnv: has no variable REDIS_PASSWORD/,
    ],
    [
      'a cache that does not fit',
      'minimal',
      { config: { cache: { memory: '300MiB' } } },
      /resources\.limits\.memory: 512Mi is too little for config\.cache\.memory of 300MiB/,
    ],
    [
      'a drain of no known length',
      'minimal',
      { config: { drain: { timeout: '30 s' } } },
      /config\.drain\.timeout: must be a duration/,
    ],
    [
      'two ways in from outside',
      'valkey',
      { ingress: { enabled: true, hosts: ['a.test'] } },
      /httpRoute\.enabled: give either an Ingress or an HTTPRoute/,
    ],
    ['an Ingress for all hosts', 'minimal', { ingress: { enabled: true } }, /ingress\.hosts: name at least one host/],
    ['a route of no Gateway', 'minimal', { httpRoute: { enabled: true } }, /httpRoute\.parentRefs: name the Gateway/],
  ];
  test.each(cases)('%s', async (_, file, values, message) => {
    expect(await refusal(file, values)).toMatch(message);
  });

  test('and allowed as soon as the gap is closed', async () => {
    const OPEN = [{ id: 'a', apiKey: 'fake-key-in-the-open' }];
    const closed: readonly (readonly [CiFile, object])[] = [
      ['minimal', { replicaCount: 2, config: { redis: { url: 'redis://redis' } } }],
      [
        'minimal',
        { admin: { auth: false }, secrets: { values: null }, config: { accounts: { main: { credentials: OPEN } } } },
      ],
      ['minimal', { config: { redis: { url: 'redis://:${PW}@r' } }, extraEnv: [{ name: 'PW', value: 'fake' }] }],
      ['minimal', { config: { redis: { url: 'redis://:${PW}@r' } }, extraEnvFrom: [{ secretRef: { name: 'r' } }] }],
      ['minimal', { config: { redis: { url: 'redis://:${PW:-fake}@r', username: '$${PW}' } } }],
      ['minimal', { config: { cache: { memory: '300MiB' } }, resources: { limits: { memory: '1Gi' } } }],
      ['minimal', { config: { cache: { memory: '300MiB' } }, resources: null }],
    ];
    for (const [file, values] of closed) expect(await built.render(file, values)).toMatchObject({ ok: true });
  });
});

test('no secret is in an error message of the chart', async () => {
  const secret = 'fake-secret-that-nobody-sees';
  const values = { secrets: { existingSecret: 'x', values: { 'admin-token': secret } } };
  expect(await refusal('minimal', values)).not.toContain(secret);
});
