import type { CacheRule } from '../cache/options.ts';
import { defaultProblemOptions, type ProblemOptions } from '../problem.ts';
import type { Pattern } from '../routing/pattern.ts';
import { Secret } from '../secret.ts';
import type { UpstreamRules } from '../upstream/upstreams.ts';
import { budgetsOf, tenantBudgetsOf } from './budget-schema.ts';
import { credentialOf } from './credential-schema.ts';
import { identityOf } from './identity-settings.ts';
import { MAX_SECRET_BYTES } from './option-types.ts';
import { cacheRuleDefaults, invalidateDefaults, OTHER_TIMEOUT_MS, upstreamDefaults } from './patchworks-defaults.ts';
import { redisOf } from './redis-schema.ts';
import { routesOf } from './route-schema.ts';
import type { GatewayInput } from './schema.ts';
import type {
  AccountSettings,
  LogLevel,
  Settings,
  TenantSettings,
  TracingSettings,
  UpstreamSettings,
} from './settings.ts';
import { accountsOf } from './tenant-accounts.ts';
import type { TenantInput } from './tenant-schema.ts';
import { upstreamSchema } from './upstream-schema.ts';
import type { BuildInput, Report } from './validate.ts';
import { type Checked, validateSettings } from './validate.ts';
import type { Path, Problem } from './yaml-source.ts';
import { showPath } from './yaml-source.ts';

export interface Built {
  readonly settings: Settings;
  readonly problems: readonly Problem[];
  readonly warnings: readonly string[];
}

/** Turns the options into settings: adds the defaults for Patchworks, resolves references, then validates the whole. */
export function buildSettings(input: BuildInput): Built {
  const problems: Problem[] = [];
  const report: Report = (source, path, message) => {
    problems.push({ file: source.file, line: source.lineOf(path), path: showPath(path), message });
  };
  const { gateway, gatewaySource } = input;
  const secrets: Secret[] = input.fromFiles
    .filter((value) => value.length <= MAX_SECRET_BYTES)
    .map((value) => new Secret(value));
  const secret = (value: string): Secret => {
    const made = new Secret(value);
    secrets.push(made);
    return made;
  };
  const accounts = new Map(Object.entries(gateway.accounts).map(([id, each]) => [id, accountOf(id, each, secret)]));
  const only = accounts.size === 1 ? ([...accounts.keys()][0] ?? null) : null;
  const upstreams = upstreamsOf(gateway, only, (path, message) => report(gatewaySource, path, message));
  const lists = new Map<string, readonly Pattern[]>();
  const tenants = new Map(
    Object.entries(input.tenants).map(([id, each]) => {
      const own = accountsOf(id, each, only, (path, message) => report(input.tenantsSource, path, message));
      return [id, tenantOf(id, each, own, lists)];
    }),
  );
  const settings: Settings = {
    listen: listenOf(input, secret),
    redis: gateway.redis === undefined ? null : redisOf(gateway.redis, secret),
    stateDir: gateway.stateDir ?? null,
    accounts,
    upstreams,
    routes: routesOf(gateway.routes),
    cache: cacheOf(gateway),
    idempotency: {
      ttlMs: gateway.idempotency.ttl,
      maxResponseBytes: gateway.idempotency.maxResponse,
      memoryBytes: gateway.idempotency.memory,
    },
    limits: {
      bodyBytes: gateway.limits.body,
      // A larger body would never find room: a tenant holds half of the total at most.
      bufferedBodyBytes: Math.min(
        gateway.limits.bufferedBody,
        gateway.limits.body,
        Math.floor(gateway.limits.bufferedTotal / 2),
      ),
      bufferedTotalBytes: gateway.limits.bufferedTotal,
      headersBytes: gateway.limits.headers,
      failedAuth: gateway.limits.failedAuth,
      requestsPerSecond: gateway.limits.requestsPerSecond,
      headersTimeoutMs: gateway.limits.headersTimeout,
      stallTimeoutMs: gateway.limits.stallTimeout,
      idleTimeoutMs: gateway.limits.idleTimeout,
    },
    drain: { delayMs: gateway.drain.delay, timeoutMs: gateway.drain.timeout },
    reload: { watch: gateway.reload.watch, pollMs: gateway.reload.poll },
    tracing: tracingOf(gateway.tracing, secret),
    log: { level: (input.logLevel || gateway.log.level) as LogLevel, access: gateway.log.access ?? null },
    problems: problemsOf(gateway.problems),
    identity: { issuers: input.issuers },
    tenants,
    secrets,
    revision: input.revision,
  };
  const checked: Checked = { settings, input, report };
  const warnings = validateSettings(checked);
  return { settings, problems, warnings };
}

function listenOf({ gateway, tls }: BuildInput, secret: (value: string) => Secret): Settings['listen'] {
  const { traffic, admin, trustedProxies } = gateway.listen;
  const tlsOf = (port: 'traffic' | 'admin') => {
    const material = tls[port];
    return material === null ? null : { ...material, key: secret(material.key) };
  };
  return {
    traffic: { host: traffic.host, port: traffic.port, tls: tlsOf('traffic') },
    admin: {
      ...{ host: admin.host, port: admin.port, tls: tlsOf('admin') },
      token: admin.token === '' ? null : secret(admin.token),
      name: admin.name,
      runbookBaseUrl: admin.runbookBaseUrl?.replace(/\/$/, '') ?? null,
      tokens: admin.tokens.map((each) => ({ ...each, token: secret(each.token) })),
    },
    trustedProxies,
  };
}

function problemsOf({ baseUrl, contact }: GatewayInput['problems']): ProblemOptions {
  const prefix = baseUrl === undefined || /[/#]$/.test(baseUrl) ? baseUrl : `${baseUrl}/`;
  return { typePrefix: prefix ?? defaultProblemOptions.typePrefix, contact: contact ?? null };
}

type AccountInput = GatewayInput['accounts'][string];

function accountOf(id: string, input: AccountInput, secret: (value: string) => Secret): AccountSettings {
  const credentials = input.credentials.map((each) => credentialOf(each, secret));
  return { id, quota: { ...input.quota, ...budgetsOf(input.budgets) }, credentials };
}

function upstreamsOf(
  gateway: GatewayInput,
  only: string | null,
  report: (path: Path, message: string) => void,
): Map<string, UpstreamSettings> {
  const named = gateway.upstreams;
  // With several accounts, no account is the obvious one for the default upstreams.
  const ids = new Set(only === null ? Object.keys(named) : [...Object.keys(upstreamDefaults), ...Object.keys(named)]);
  const upstreams = new Map<string, UpstreamSettings>();
  for (const id of ids) {
    const input = named[id];
    const defaults = upstreamDefaults[id];
    const account = input?.account ?? only;
    const origin = input?.origin ?? defaults?.origin;
    if (account === null) report(['upstreams', id], 'needs an account, since there are several');
    if (origin === undefined) report(['upstreams', id], 'needs an origin');
    const timeoutMs = input?.timeout ?? defaults?.timeoutMs ?? OTHER_TIMEOUT_MS;
    upstreams.set(id, {
      id,
      account: account ?? '',
      origin: origin === undefined ? '' : new URL(origin).origin,
      timeoutMs,
      ...rulesOf(input ?? upstreamSchema.parse({})),
    });
  }
  return upstreams;
}

function rulesOf({ retries, breaker, maxInFlight }: GatewayInput['upstreams'][string]): UpstreamRules {
  const { enabled, failurePercent, minRequests, window, open, maxOpen } = breaker;
  return {
    retries: { max: retries.max, budgetPercent: retries.budget },
    breaker: {
      ...{ enabled, failurePercent, minRequests: minRequests, windowMs: window },
      ...{ openMs: open, maxOpenMs: Math.max(open, maxOpen) },
    },
    maxInFlight,
  };
}

function cacheOf({ cache }: GatewayInput): Settings['cache'] {
  const rules = cache.rules?.map((rule): CacheRule => {
    if (rule.ttl === undefined) return { match: rule.match, store: false };
    return {
      match: rule.match,
      store: true,
      ttlMs: rule.ttl,
      staleWhileRevalidateMs: rule.staleWhileRevalidate,
      staleIfErrorMs: rule.staleIfError,
      staleIfThrottledMs: rule.staleIfThrottled,
      unless: rule.unless,
      vary: rule.vary,
      tags: rule.tags,
    };
  });
  return {
    memoryBytes: cache.memory,
    maxEntryBytes: cache.maxEntry,
    shared: cache.shared,
    maxDisconnectedAgeMs: cache.maxDisconnectedAge,
    rules: rules ?? cacheRuleDefaults,
    invalidate: cache.invalidate ?? invalidateDefaults,
  };
}

/** Characters. A shorter header value is a tenant name or a flag; masking it everywhere would make logs unreadable. */
const MIN_SECRET_LENGTH = 8;

function tracingOf(input: GatewayInput['tracing'], secret: (value: string) => Secret): TracingSettings {
  // Without a `tracing` section the trace headers pass like all others.
  if (input === undefined) return { exporter: null, propagate: true };
  const { endpoint, sample, serviceName, propagate } = input;
  if (endpoint === undefined) return { exporter: null, propagate };
  const hidden = (value: string) => (value.length < MIN_SECRET_LENGTH ? new Secret(value) : secret(value));
  const headers = new Map(Object.entries(input.headers).map(([name, value]) => [name, hidden(value)]));
  return { exporter: { endpoint, headers, sample, serviceName }, propagate };
}

/** A tenant without a rate has no rate limit of its own: its account's burst is its own. */
const BURST_WITH_RATE = 20;

function tenantOf(
  id: string,
  input: TenantInput,
  accounts: readonly string[],
  lists: Map<string, readonly Pattern[]>,
): TenantSettings {
  const { rate, burst, weight, reserved, maxWait, maxInFlight } = input.quota;
  return {
    id,
    accounts,
    disabled: input.disabled,
    keys: input.keys.map((key) => ({
      id: key.id,
      sha256: key.sha256.toLowerCase(),
      expiresAtMs: key.expires === undefined ? null : Date.parse(key.expires),
      allow: key.allow === undefined ? null : shared(key.allow, lists),
      cidrs: key.cidrs ?? null,
    })),
    identities: input.identities.map(identityOf),
    allow: input.allow === undefined ? null : shared(input.allow, lists),
    quota: {
      rate: rate ?? null,
      burst: burst ?? (rate === undefined ? null : BURST_WITH_RATE),
      weight,
      reserved: reserved,
      maxWaitMs: maxWait,
      ...tenantBudgetsOf(input.budgets),
    },
    maxInFlight: maxInFlight ?? null,
    enforcement: input.enforcement,
  };
}

/** Thousands of tenants may have equal lists: they share one list in memory. */
function shared(allow: readonly Pattern[], lists: Map<string, readonly Pattern[]>): readonly Pattern[] {
  const text = allow.map((pattern) => pattern.text).join('\n');
  const list = lists.get(text) ?? allow;
  lists.set(text, list);
  return list;
}
