import type { Settings, TlsSettings, UpstreamSettings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';

/**
 * Options of what is opened at the start and holds connections, counts or cached responses. The chart replaces pods for these:
 * `patchgate.fixed` in helm/patchgate/templates/_config.tpl, held together with this list by test/deploy/helm-config.test.ts.
 */
export const RESTART_ONLY: readonly (readonly [option: string, of: (settings: Settings) => unknown])[] = [
  ['listen.traffic.host', ({ listen }) => listen.traffic.host],
  ['listen.traffic.port', ({ listen }) => listen.traffic.port],
  ['listen.admin.host', ({ listen }) => listen.admin.host],
  ['listen.admin.port', ({ listen }) => listen.admin.port],
  ['listen.traffic.tls', ({ listen }) => listen.traffic.tls !== null],
  ['listen.traffic.tls.clientAuth', ({ listen }) => listen.traffic.tls?.clientAuth ?? 'none'],
  ['listen.admin.tls', ({ listen }) => listen.admin.tls !== null],
  ['listen.admin.tls.clientAuth', ({ listen }) => listen.admin.tls?.clientAuth ?? 'none'],
  ['redis', ({ redis }) => redis],
  ['stateDir', ({ stateDir }) => stateDir],
  ['cache.memory', ({ cache }) => cache.memoryBytes],
  ['cache.shared', ({ cache }) => cache.shared],
  ['idempotency.ttl', ({ idempotency }) => idempotency.ttlMs],
  ['idempotency.memory', ({ idempotency }) => idempotency.memoryBytes],
  ['tracing.endpoint', ({ tracing }) => tracing.exporter?.endpoint],
  ['tracing.headers', ({ tracing }) => tracing.exporter?.headers],
  ['tracing.sample', ({ tracing }) => tracing.exporter?.sample],
  ['tracing.serviceName', ({ tracing }) => tracing.exporter?.serviceName],
  ['limits.headers', ({ limits }) => limits.headersBytes],
  ['limits.headersTimeout', ({ limits }) => limits.headersTimeoutMs],
  ['limits.idleTimeout', ({ limits }) => limits.idleTimeoutMs],
  ['limits.failedAuth', ({ limits }) => limits.failedAuth],
  ['limits.requestsPerSecond', ({ limits }) => limits.requestsPerSecond],
];

export interface Applicable {
  /** New settings, with the old value of each option that only a restart can change. */
  readonly settings: Settings;
  /** The names of options that keep their old value for that reason. */
  readonly needsRestart: readonly string[];
}

/** New settings, as far as a process that was opened with other ones can apply them. */
export function applicable(opened: Settings, next: Settings): Applicable {
  const { upstreams, tooLong } = upstreamsOf(opened, next);
  const { headersBytes, headersTimeoutMs, idleTimeoutMs, failedAuth, requestsPerSecond } = opened.limits;
  const settings: Settings = {
    ...next,
    listen: {
      ...next.listen,
      traffic: { ...opened.listen.traffic, tls: tlsOf(opened.listen.traffic.tls, next.listen.traffic.tls) },
      admin: {
        ...next.listen.admin,
        host: opened.listen.admin.host,
        port: opened.listen.admin.port,
        tls: tlsOf(opened.listen.admin.tls, next.listen.admin.tls),
      },
    },
    redis: opened.redis,
    stateDir: opened.stateDir,
    upstreams,
    cache: { ...next.cache, memoryBytes: opened.cache.memoryBytes, shared: opened.cache.shared },
    idempotency: { ...opened.idempotency, maxResponseBytes: next.idempotency.maxResponseBytes },
    tracing: { ...next.tracing, exporter: opened.tracing.exporter },
    limits: { ...next.limits, headersBytes, headersTimeoutMs, idleTimeoutMs, failedAuth, requestsPerSecond },
  };
  const changed = RESTART_ONLY.filter(([, of]) => !deepEqual(of(opened), of(next))).map(([option]) => option);
  return { settings, needsRestart: [...changed, ...tooLong] };
}

/** An open port can get another certificate. Whether it speaks TLS, and asks for client certificates, stays. */
function tlsOf(opened: TlsSettings | null, next: TlsSettings | null): TlsSettings | null {
  if (opened === null || next === null) return opened;
  return { ...next, clientAuth: opened.clientAuth, clientCa: next.clientCa ?? opened.clientCa };
}

/**
 * Other replicas know how long a request of this one can be under way, and rely on it when this one falls silent. With a
 * longer timeout, requests could arrive after they have stopped counting them.
 */
function upstreamsOf(opened: Settings, next: Settings) {
  if (opened.redis === null) return { upstreams: next.upstreams, tooLong: [] };
  const longestMs = Math.max(...[...opened.upstreams.values()].map(({ timeoutMs }) => timeoutMs));
  const tooLong: string[] = [];
  const upstreams = new Map<string, UpstreamSettings>();
  for (const [id, upstream] of next.upstreams) {
    if (upstream.timeoutMs > longestMs) tooLong.push(`upstreams.${id}.timeout`);
    upstreams.set(id, { ...upstream, timeoutMs: Math.min(upstream.timeoutMs, longestMs) });
  }
  return { upstreams, tooLong };
}
