import { z } from 'zod';
import { cacheSchema } from './cache-schema.ts';
import { doc, duration, flag, httpUrl, id, pattern, size, text, whole } from './fields.ts';
import { listenSchema } from './listen-schema.ts';
import { redisSchema } from './redis-schema.ts';
import { tenantMap } from './tenant-schema.ts';
import { tracingSchema } from './tracing-schema.ts';
import { upstreamSchema } from './upstream-schema.ts';

/**
 * The shape of gateway.yaml and tenants.yaml. Each option carries its documentation: docs/configuration.md and the JSON
 * Schemas are made from this file, and a test fails when they are not.
 */
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const apiKeyCredential = z.strictObject({
  id: doc(id(), { description: 'Name of the credential in logs and metrics.' }),
  apiKey: doc(text(), { description: 'A Patchworks API key; sent verbatim as `Authorization`.' }),
});
const loginCredential = z.strictObject({
  id: doc(id(), { description: 'Name of the credential in logs and metrics.' }),
  login: z.strictObject({
    url: doc(httpUrl(), { description: 'Where to log in, such as https://app.wearepatchworks.com/fabric/api/login.' }),
    username: doc(text(), { description: "User the gateway logs in as. The token carries this user's rights." }),
    password: doc(text(), { description: 'Its password.' }),
    usernameField: doc(
      z
        .string({ error: 'must be a name' })
        .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'must be the name of a JSON field' })
        .default('username'),
      {
        description: 'JSON field that carries the username; `email` for the older form of the call.',
        shown: 'username',
      },
    ),
  }),
});

const account = z.strictObject({
  quota: z
    .strictObject({
      limit: doc(whole(2, 10_000_000).default(240), {
        description:
          'What Patchworks allows this account in 60 s. Set it higher than the truth and Patchworks answers 429.',
        unit: 'requests per 60 s',
        shown: '240',
      }),
      ceiling: doc(whole(1, 10_000_000).default(235), {
        description:
          'What the gateway sends at most in any 60 s. Must be below `limit`: the difference is left to people in the dashboard.',
        unit: 'requests per 60 s',
        shown: '235',
      }),
      burst: doc(whole(1, 10_000_000).default(60), {
        description: 'How many may be sent at once after a pause. The bucket is refilled at `ceiling` a minute.',
        unit: 'requests',
        shown: '60',
      }),
    })

    // Here, and not with the other arithmetic, so that it is reported together with every mistake elsewhere.
    .superRefine(({ limit, ceiling }, context) => {
      if (ceiling < limit) return;
      const message = `must be below the limit (${limit}): at the limit Patchworks answers 429`;
      context.addIssue({ code: 'custom', path: ['ceiling'], message });
    })
    .prefault({}),
  credentials: doc(
    z
      .array(z.union([apiKeyCredential, loginCredential]), { error: 'must be a list of credentials' })
      .min(1, { error: 'must hold at least one credential' }),
    {
      description:
        'In order of preference: the first is used, the next when Patchworks answers 401. Each has an `id` and either `apiKey` or `login`.',
    },
  ),
});

const route = z.strictObject({
  match: doc(pattern(), { description: 'Method and path: `*` is one segment, `**` the rest. `GET` covers HEAD.' }),
  upstream: doc(id(), { description: 'Where matching requests go.' }),
  rewriteLinks: doc(flag().optional(), {
    description:
      'Lead pagination links in JSON back through the gateway. Costs the compression of answers from upstream. Default: true if the upstream is a Patchworks host.',
  }),
});

const idempotency = z
  .strictObject({
    ttl: doc(duration(1_000, 30 * DAY).default(DAY), {
      description:
        'How long the first answer to a write with an `Idempotency-Key` is kept, and given to whoever repeats it. A repeat that comes later is a new write.',
      unit: 'duration',
      shown: '24h',
    }),
    maxResponse: doc(size(0, 64 * 1024 ** 2).default(1024 ** 2), {
      description:
        'A larger answer to such a write goes out whole and is not kept: a repeat is answered 409 and told the status of the first.',
      unit: 'size',
      shown: '1MiB',
    }),
    memory: doc(size(64 * 1024, 1024 ** 4).default(32 * 1024 ** 2), {
      description:
        'Without `redis:`, room for such answers in this process. When it is full the least recently used are forgotten before their time, and a repeat of theirs is a new write.',
      unit: 'size',
      shown: '32MiB',
    }),
  })
  .prefault({});

const limits = z
  .strictObject({
    body: doc(size(0, 1024 ** 4).default(10 * 1024 ** 2), {
      description: 'Largest request body; above it 413.',
      unit: 'size',
      shown: '10MiB',
    }),
    bufferedBody: doc(size(0, 1024 ** 3).default(1024 ** 2), {
      description:
        'Bodies up to this size are read before they are sent: they can be sent again after a 401, and a slow upload holds no slot. Held in memory while in flight.',
      unit: 'size',
      shown: '1MiB',
    }),
    headers: doc(size(1024, 1024 ** 2).default(32 * 1024), {
      description: 'All request headers together; above it 400, as for more than 100 of them.',
      unit: 'size',
      shown: '32KiB',
    }),
    failedAuth: doc(whole(1, 1_000_000).default(20), {
      description:
        'Keys that open nothing, from one address in 60 s: from then on all its requests are answered 429 until the 60 s are over. Callers behind one address share it: set `listen.trustedProxies` if there is a proxy. IPv6 counts by /64. A missing key does not count.',
      unit: 'requests per 60 s and address',
      shown: '20',
    }),
    requestsPerSecond: doc(whole(1, 10_000_000).default(2_000), {
      description:
        'Requests of all kinds, cached and refused ones too, that one tenant may make in a second over all replicas; above it 429 for the rest of the second. Protects the gateway, not Patchworks: that is what the quotas do.',
      unit: 'requests per second and tenant',
      shown: '2000',
    }),
    headersTimeout: doc(duration(100, HOUR).default(10_000), {
      description: 'A caller has this long to send its headers.',
      unit: 'duration',
      shown: '10s',
    }),
    idleTimeout: doc(duration(100, HOUR).default(75_000), {
      description: 'An idle connection is kept this long. Keep it above the idle timeout of a balancer in front.',
      unit: 'duration',
      shown: '75s',
    }),
  })
  .prefault({});

const drain = z
  .strictObject({
    delay: doc(duration(0, HOUR).default(5_000), {
      description:
        'After SIGTERM the gateway says it is not ready but goes on accepting for this long, until balancers have noticed. Its answers say `Connection: close` meanwhile: callers that keep connections silent for longer may lose a request that is on its way when their connection ends.',
      unit: 'duration',
      shown: '5s',
    }),
    timeout: doc(duration(0, HOUR).default(30_000), {
      description: 'Then what is in flight may take this long, and is cut off.',
      unit: 'duration',
      shown: '30s',
    }),
  })
  .prefault({});

const reload = z
  .strictObject({
    watch: doc(flag().default(true), {
      description:
        'Load again when this file, the tenants file or a file of a `${file:…}` has changed and been left alone for 150ms. false: only on SIGHUP and `POST /reload`.',
      shown: 'true',
    }),
    poll: doc(duration(1_000, HOUR).default(5_000), {
      description:
        'With `watch`, the files are also looked at this often: a network file system does not tell of changes made elsewhere, and a system may have no watches left.',
      unit: 'duration',
      shown: '5s',
    }),
  })
  .prefault({});

export const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export const gatewaySchema = z.strictObject({
  listen: listenSchema,
  redis: doc(redisSchema.optional(), {
    description: 'State shared by several replicas. Left out: embedded state, for one process alone.',
  }),
  accounts: doc(z.record(id(), account, { error: 'must be a map of accounts' }), {
    description: 'Patchworks accounts, by name.',
  }),
  upstreams: doc(z.record(id(), upstreamSchema).default({}), {
    description: 'Hosts, by name. `core` and `start` are there by default.',
  }),
  routes: doc(z.array(route).optional(), {
    description: 'First match wins; what matches none is answered 404. Default: see "Defaults for Patchworks".',
  }),
  cache: cacheSchema,
  idempotency,
  limits,
  drain,
  reload,
  tracing: doc(tracingSchema.optional(), {
    description: 'Traces of requests (W3C Trace Context, OpenTelemetry).',
  }),
  log: z
    .strictObject({
      level: doc(z.enum(LEVELS, { error: `must be one of ${LEVELS.join(', ')}` }).default('info'), {
        description:
          'Least important line that is written; access lines are `info`. The environment variable LOG_LEVEL overrides it.',
        shown: 'info',
      }),
    })
    .prefault({}),
  tenantsFile: doc(text().optional(), {
    description: 'File with `tenants:`, relative to this one. Default: tenants.yaml, unless `tenants` is given here.',
    shown: 'tenants.yaml',
  }),
  tenants: doc(tenantMap.optional(), { description: 'The tenants, if they are not in a file of their own.' }),
});

export type GatewayInput = z.output<typeof gatewaySchema>;
