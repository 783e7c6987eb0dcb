import { z } from 'zod';
import { defaultProblemOptions } from '../problem.ts';
import { accountSchema } from './account-schema.ts';
import { cacheSchema } from './cache-schema.ts';
import { identitySchema } from './identity-schema.ts';
import { listenSchema } from './listen-schema.ts';
import {
  absolutePath,
  doc,
  duration,
  flag,
  headerName,
  headerSecret,
  httpUrl,
  id,
  optional,
  size,
  text,
  whole,
} from './option-types.ts';
import { redisSchema } from './redis-schema.ts';
import { routeSchema, upstreamSchema } from './route-schema.ts';
import { tenantMap } from './tenant-schema.ts';

/**
 * The shape of gateway.yaml. Each option carries its documentation: `npm run generate` makes docs/configuration.md and the
 * JSON Schemas from it.
 */
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const idempotency = z
  .strictObject({
    ttl: doc(duration(1_000, 30 * DAY).prefault('24h'), {
      description:
        'How long the first response to a write with an `Idempotency-Key` is kept and replayed. A later repeat is a new write.',
    }),
    maxResponse: doc(size(0, 64 * 1024 ** 2).prefault('1MiB'), {
      description:
        'Largest kept response. A larger one goes out whole and is not kept: a repeat gets 409 with the status of the first.',
    }),
    memory: doc(size(64 * 1024, 1024 ** 4).prefault('32MiB'), {
      description:
        'Without `redis:`, memory of this process for these responses. When it is full, the tenant that has the most loses its oldest: a repeat of such a write gets 409 with the status of the first. Without any left, it loses its oldest writes: a repeat is a new write. With `redis:`, memory there for the responses of one tenant. Beyond it, or while Redis uses more than 80 % of its `maxmemory`, a response is kept without its body: a repeat gets 409 with the status of the first.',
    }),
  })
  .transform(({ ttl, maxResponse, memory }) => ({ ttlMs: ttl, maxResponseBytes: maxResponse, memoryBytes: memory }))
  .prefault({});

const limits = z
  .strictObject({
    body: doc(size(0, 1024 ** 4).prefault('10MiB'), {
      description: 'Largest request body; larger ones get 413.',
    }),
    bufferedBody: doc(size(0, 1024 ** 3).prefault('1MiB'), {
      description:
        'Bodies up to this size are read before they are sent, chunked ones too. So they can be sent again after a 401, and a slow upload holds no slot. They are in memory while in flight. Larger ones stream, and hold a slot while they are uploaded.',
    }),
    bufferedTotal: doc(size(64 * 1024, 1024 ** 4).prefault('64MiB'), {
      description:
        'Memory of this process for bodies that it has to keep: request bodies up to `bufferedBody`, whole ones with an `Idempotency-Key`, responses on their way into the cache, and responses whose links are rewritten. A tenant may hold as much as is free: half while it is alone. Without room nothing is read, and after the `maxWait` of the tenant the request gets 503 `overloaded`; a response passes without being stored. A body with an `Idempotency-Key` above half of it gets 413.',
    }),
    headers: doc(size(1024, 1024 ** 2).prefault('32KiB'), {
      description: 'Size of all request headers together; above it 400, as for more than 100 header lines.',
    }),
    failedAuth: doc(whole(1, 1_000_000).default(20), {
      description:
        'Failed authentications from one address in 60 s. Above it, all its requests get 429 until the 60 s are over. Callers behind one address share the count: set `listen.trustedProxies` if there is a proxy. IPv6 counts by /64. A missing key does not count. It holds for tokens of the admin port too, counted by each replica; the same wrong token again does not count.',
      unit: 'requests per 60 s and address',
    }),
    requestsPerSecond: doc(whole(1, 10_000_000).default(2_000), {
      description:
        'Requests of one tenant in a second over all replicas, cached and rejected ones included; above it 429 for the rest of the second. It protects the gateway; the quotas protect Patchworks.',
      unit: 'requests per second and tenant',
    }),
    // A whole request has five minutes, and Node refuses to start with more for its headers.
    headersTimeout: doc(duration(100, 300_000).prefault('10s'), {
      description:
        'Longest time in which a caller sends its headers. A drain waits a second for the rest of them, whatever this is.',
    }),
    stallTimeout: doc(duration(1_000, HOUR).prefault('30s'), {
      description:
        'A response that its caller does not read, or an upload that it does not send, is cut after this time without progress; and below 1 KiB/s over a minute, whatever this is. Else slow callers would hold the permits of an upstream. Progress is what the kernel takes over, some hundred KiB at a time on a fast connection: if this is too short, slow downloads break off.',
    }),
    idleTimeout: doc(duration(100, HOUR).prefault('75s'), {
      description:
        'Longest time without a request on a connection. Keep it above the idle timeout of a balancer in front.',
    }),
  })
  .transform(({ failedAuth, requestsPerSecond, ...options }) => ({
    failedAuth,
    requestsPerSecond,
    bodyBytes: options.body,
    // A larger body would never find room: a tenant holds half of the total at most.
    bufferedBodyBytes: Math.min(options.bufferedBody, options.body, Math.floor(options.bufferedTotal / 2)),
    bufferedTotalBytes: options.bufferedTotal,
    headersBytes: options.headers,
    headersTimeoutMs: options.headersTimeout,
    stallTimeoutMs: options.stallTimeout,
    idleTimeoutMs: options.idleTimeout,
  }))
  .prefault({});

const drain = z
  .strictObject({
    delay: doc(duration(0, HOUR).prefault('5s'), {
      description:
        'After SIGTERM the gateway reports not ready and goes on accepting for this long, until balancers have noticed. Its responses have `Connection: close` meanwhile. A caller whose connection is silent for longer may lose a request that is on its way when the connection ends.',
    }),
    timeout: doc(duration(0, HOUR).prefault('30s'), {
      description: 'Time for requests in flight after `delay`; then they are cut off.',
    }),
  })
  .transform(({ delay, timeout }) => ({ delayMs: delay, timeoutMs: timeout }))
  .prefault({});

const reload = z
  .strictObject({
    watch: doc(flag().default(true), {
      description:
        'true: the configuration is loaded when this file, the tenants file or a file of a `${file:…}` has changed and then stayed the same for 150ms. false: only on SIGHUP and `POST /reload`.',
    }),
    poll: doc(duration(1_000, HOUR).prefault('5s'), {
      description:
        'With `watch`, interval at which the contents of the files are compared as well: a network file system may show neither a new size nor new times of a file that was changed elsewhere.',
    }),
  })
  .transform(({ watch, poll }) => ({ watch, pollMs: poll }))
  .prefault({});

const tracing = z
  .strictObject({
    endpoint: doc(optional(httpUrl()), {
      description:
        'Collector for spans, OTLP over HTTP as JSON, such as `http://otel-collector:4318/v1/traces`. Without it there are no spans, and OpenTelemetry is not loaded. The environment variables `OTEL_EXPORTER_OTLP_*` set what is not set here, such as a certificate.',
    }),
    headers: doc(z.record(headerName(), headerSecret(), { error: 'must be a map of header fields' }).default({}), {
      description: 'Headers for the collector, such as its key. Their values are secrets.',
    }),
    sample: doc(
      z
        .number({ error: 'must be a number from 0 to 1' })
        .min(0, { error: 'must be at least 0' })
        .max(1, { error: 'must be at most 1' })
        .default(0.1),
      {
        description:
          "Share of recorded requests, if the caller has not decided. The sampled flag of a caller's `traceparent` has priority.",
        unit: 'share from 0 to 1',
      },
    ),
    serviceName: doc(text().default('patchgate'), {
      description: 'Name of the gateway in traces (`service.name`).',
    }),
    propagate: doc(flag().default(false), {
      description:
        "true: Patchworks gets `traceparent` (the gateway's own span, if there is an endpoint) and the caller's `tracestate`. false: `traceparent`, `tracestate` and `baggage` are not sent. Without a `tracing` section they pass unchanged.",
    }),
  })
  .superRefine(({ endpoint, headers }, context) => {
    if (endpoint !== null || Object.keys(headers).length === 0) return;
    context.addIssue({ code: 'custom', path: ['headers'], message: 'needs an endpoint' });
  })
  .transform(({ endpoint, headers, sample, serviceName, propagate }) => ({
    /** Null: there are no spans. */
    exporter: endpoint === null ? null : { endpoint, headers: new Map(Object.entries(headers)), sample, serviceName },
    propagate,
  }));

const ACCESS = ['all', 'errors', 'off'] as const;
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export const logLevel = z.enum(LEVELS, { error: `must be one of ${LEVELS.join(', ')}` });

export const gatewaySchema = z.strictObject({
  listen: listenSchema,
  redis: doc(optional(redisSchema), {
    description: 'State shared by several replicas. Without it, state is embedded, for one process only.',
  }),
  stateDir: doc(optional(absolutePath()), {
    description:
      'Without `redis:`, the directory in which the counts of budgets survive a restart, in `budgets.json`: written a second after a change at the latest, and at the end. It must exist, be writable, and belong to one process. Without it the counts begin at 0 after each restart.',
  }),
  accounts: doc(z.record(id(), accountSchema, { error: 'must be a map of accounts' }), {
    description: 'Patchworks accounts, by name.',
  }),
  upstreams: doc(z.record(id(), upstreamSchema).default({}), {
    description: 'Upstream hosts, by name. `core` and `start` exist by default.',
  }),
  routes: doc(z.array(routeSchema).optional(), {
    description:
      'Routes; the first match wins, and a request without a match gets 404. Default: see "Defaults for Patchworks".',
  }),
  cache: cacheSchema,
  identity: identitySchema,
  idempotency,
  limits,
  drain,
  reload,
  // Without the section, the trace headers pass like all others.
  tracing: doc(
    tracing.optional().transform((given) => given ?? { exporter: null, propagate: true }),
    { description: 'Traces of requests (W3C Trace Context, OpenTelemetry).' },
  ),
  log: z
    .strictObject({
      level: doc(logLevel.default('info'), {
        description:
          'Lowest level that is logged. Access lines are `info`, and `warn` where the status is 5xx. The environment variable LOG_LEVEL overrides it.',
      }),
      access: doc(optional(z.enum(ACCESS, { error: `must be one of ${ACCESS.join(', ')}` })), {
        description:
          'Requests that have an access line, whatever `log.level` is: `all`, `errors` (status 400 and above), or `off`. Default: those that `log.level` admits.',
      }),
    })
    .prefault({}),
  problems: z
    .strictObject({
      baseUrl: doc(httpUrl().optional(), {
        description:
          'Where callers read about the code of a rejection: its `type` is this URL and the code, after a slash unless it ends in `/` or `#`. Default: `type` is `urn:patchgate:problem:CODE`.',
      }),
      contact: doc(optional(text().max(200, { error: 'must have at most 200 characters' })), {
        description:
          'Whom callers ask, such as an address or a channel: the member `contact` of a rejection, and in its text after "the platform team".',
      }),
    })
    .transform(({ baseUrl, contact }) => ({ typePrefix: typePrefixOf(baseUrl), contact }))
    .prefault({}),
  tenantsFile: doc(text().optional(), {
    description: 'File with `tenants:`, relative to this one. Default: tenants.yaml, unless `tenants` is set here.',
  }),
  tenants: doc(tenantMap.optional(), { description: 'The tenants, if they are not in a separate file.' }),
});

function typePrefixOf(baseUrl: string | undefined): string {
  if (baseUrl === undefined) return defaultProblemOptions.typePrefix;
  return /[/#]$/.test(baseUrl) ? baseUrl : `${baseUrl}/`;
}

export type GatewayInput = z.output<typeof gatewaySchema>;
