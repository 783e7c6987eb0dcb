import type { Settings, TlsSettings, UpstreamSettings } from '../config/model.ts';
import { same } from './same.ts';

/** What was opened at the start and holds connections, counts or answers: it can not be another one while they last. */
export const FIXED: readonly (readonly [option: string, of: (settings: Settings) => unknown])[] = [
  ['listen.traffic.host', ({ listen }) => listen.traffic.host],
  ['listen.traffic.port', ({ listen }) => listen.traffic.port],
  ['listen.admin.host', ({ listen }) => listen.admin.host],
  ['listen.admin.port', ({ listen }) => listen.admin.port],
  ['listen.traffic.tls', ({ listen }) => listen.traffic.tls !== null],
  ['listen.traffic.tls.clientAuth', ({ listen }) => listen.traffic.tls?.clientAuth ?? 'none'],
  ['listen.admin.tls', ({ listen }) => listen.admin.tls !== null],
  ['listen.admin.tls.clientAuth', ({ listen }) => listen.admin.tls?.clientAuth ?? 'none'],
  ['redis', ({ redis }) => redis],
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

export interface Fitted {
  /** What can be in force now. */
  readonly settings: Settings;
  /** Options that keep their old value until a restart. */
  readonly kept: readonly string[];
}

/** New settings as far as a process that was opened with others can take them over. */
export function fitted(opened: Settings, next: Settings): Fitted {
  const { upstreams, kept } = upstreamsOf(opened, next);
  const {
    headersBytes,
    headersTimeoutMs,
    idleTimeoutMs,
    failedAuth: failedKeys,
    requestsPerSecond: flood,
  } = opened.limits;
  const settings: Settings = {
    ...next,
    listen: {
      ...next.listen,
      traffic: { ...opened.listen.traffic, tls: tlsOf(opened.listen.traffic.tls, next.listen.traffic.tls) },
      admin: {
        ...opened.listen.admin,
        token: next.listen.admin.token,
        tls: tlsOf(opened.listen.admin.tls, next.listen.admin.tls),
      },
    },
    redis: opened.redis,
    upstreams,
    cache: { ...next.cache, memoryBytes: opened.cache.memoryBytes, shared: opened.cache.shared },
    idempotency: { ...opened.idempotency, maxResponseBytes: next.idempotency.maxResponseBytes },
    tracing: { ...next.tracing, exporter: opened.tracing.exporter },
    limits: {
      ...next.limits,
      headersBytes,
      headersTimeoutMs,
      idleTimeoutMs,
      failedAuth: failedKeys,
      requestsPerSecond: flood,
    },
  };
  const fixed = FIXED.filter(([, of]) => !same(of(opened), of(next))).map(([option]) => option);
  return { settings, kept: [...fixed, ...kept] };
}

/** Certificates can be exchanged on a port that is open; what it asks of callers, and whether it speaks TLS, can not. */
function tlsOf(opened: TlsSettings | null, next: TlsSettings | null): TlsSettings | null {
  if (opened === null || next === null) return opened;
  return { ...next, clientAuth: opened.clientAuth, clientCa: next.clientCa ?? opened.clientCa };
}

/**
 * The other replicas were told how long a request of this one can be under way, and count on it when this one falls silent:
 * a longer timeout would let requests arrive that they no longer reckon with.
 */
function upstreamsOf(opened: Settings, next: Settings) {
  if (opened.redis === null) return { upstreams: next.upstreams, kept: [] };
  const longestMs = Math.max(...[...opened.upstreams.values()].map(({ timeoutMs }) => timeoutMs));
  const kept: string[] = [];
  const upstreams = new Map<string, UpstreamSettings>();
  for (const [id, upstream] of next.upstreams) {
    if (upstream.timeoutMs > longestMs) kept.push(`upstreams.${id}.timeout`);
    upstreams.set(id, { ...upstream, timeoutMs: Math.min(upstream.timeoutMs, longestMs) });
  }
  return { upstreams, kept };
}
