import type { Pattern } from '../routing/pattern.ts';
import { Secret } from '../secret.ts';
import { MAX_SECRET_BYTES } from './option-types.ts';
import { OTHER_TIMEOUT_MS, routeDefaults, upstreamDefaults } from './patchworks-defaults.ts';
import { routeSchema, upstreamSchema } from './route-schema.ts';
import type { GatewayInput } from './schema.ts';
import type { Settings, TenantSettings, UpstreamSettings } from './settings.ts';
import { accountsOf } from './tenant-accounts.ts';
import { type BuildInput, type Report, validateSettings } from './validate.ts';
import { warningsOf } from './warnings.ts';
import type { Problem } from './yaml-source.ts';

interface Built {
  readonly settings: Settings;
  readonly problems: readonly Problem[];
  readonly warnings: readonly string[];
}

/** Turns the options into settings: adds the defaults for Patchworks, resolves references, then validates the whole. */
export function buildSettings(input: BuildInput): Built {
  const problems: Problem[] = [];
  const report: Report = (path, message) => void problems.push(input.gatewaySource.problem(path, message));
  const reportTenant: Report = (path, message) => void problems.push(input.tenantsSource.problem(path, message));
  const { gateway, named, revision } = input;
  const { tenantsFile: _, listen, log, ...sections } = gateway;
  const accounts = new Map(Object.entries(gateway.accounts).map(([id, account]) => [id, { id, ...account }]));
  const only = accounts.size === 1 ? ([...accounts.keys()][0] ?? null) : null;
  const options = {
    listen: {
      ...listen,
      traffic: { ...listen.traffic, tls: named.tls.traffic },
      admin: { ...listen.admin, tls: named.tls.admin },
    },
    ...sections,
    accounts,
    upstreams: upstreamsOf(gateway, only, report),
    routes: gateway.routes ?? routeSchema.array().parse(routeDefaults),
    log: { ...log, level: input.logLevel ?? log.level },
    identity: { issuers: named.issuers },
    tenants: tenantsOf(input, only, reportTenant),
    revision,
  };
  const fromFiles = input.fromFiles
    .filter((value) => value.length <= MAX_SECRET_BYTES)
    .map((value) => new Secret(value));
  const settings: Settings = { ...options, secrets: [...fromFiles, ...secretsOf(options)] };
  validateSettings({ settings, input, report, reportTenant });
  return { settings, problems, warnings: warningsOf(settings, [input.gatewaySource, input.tenantsSource], input.now) };
}

function upstreamsOf(gateway: GatewayInput, only: string | null, report: Report): Map<string, UpstreamSettings> {
  const named = gateway.upstreams;
  // With several accounts, no account is the obvious one for the default upstreams.
  const ids = new Set(only === null ? Object.keys(named) : [...Object.keys(upstreamDefaults), ...Object.keys(named)]);
  const upstreams = new Map<string, UpstreamSettings>();
  for (const id of ids) {
    const { timeout, ...input } = named[id] ?? upstreamSchema.parse({});
    const defaults = upstreamDefaults[id];
    const account = input.account ?? only;
    const origin = input.origin ?? defaults?.origin;
    if (account === null) report(['upstreams', id], 'needs an account, since there are several');
    if (origin === undefined) report(['upstreams', id], 'needs an origin');
    upstreams.set(id, {
      ...input,
      id,
      account: account ?? '',
      origin: origin === undefined ? '' : new URL(origin).origin,
      timeoutMs: timeout ?? defaults?.timeoutMs ?? OTHER_TIMEOUT_MS,
    });
  }
  return upstreams;
}

function tenantsOf(input: BuildInput, only: string | null, report: Report): Map<string, TenantSettings> {
  const lists = new Map<string, readonly Pattern[]>();
  return new Map(
    Object.entries(input.tenants).map(([id, tenant]) => {
      const { account: _, keys, allow, ...options } = tenant;
      const accounts = accountsOf(id, tenant, only, report);
      const own = keys.map((key) => ({ ...key, allow: shared(key.allow, lists) }));
      return [id, { id, keys: own, allow: shared(allow, lists), ...options, accounts }];
    }),
  );
}

/** Thousands of tenants may have equal lists: they share one list in memory. */
function shared(allow: readonly Pattern[] | null, lists: Map<string, readonly Pattern[]>): readonly Pattern[] | null {
  if (allow === null) return null;
  const text = allow.map((pattern) => pattern.text).join('\n');
  const list = lists.get(text) ?? allow;
  lists.set(text, list);
  return list;
}

/** Characters. A shorter header of the collector is a tenant name or a flag; masking it everywhere would make logs unreadable. */
const MIN_HEADER_LENGTH = 8;

/** All secrets in the settings, for redaction by value. */
function secretsOf(settings: Omit<Settings, 'secrets'>): Secret[] {
  const headers = [...(settings.tracing.exporter?.headers.values() ?? [])];
  const plain = new Set(headers.filter((value) => value.reveal().length < MIN_HEADER_LENGTH));
  return secretsIn(settings).filter((secret) => !plain.has(secret));
}

function secretsIn(value: unknown): Secret[] {
  if (value instanceof Secret) return [value];
  if (value instanceof Map) return [...value.values()].flatMap(secretsIn);
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(secretsIn) : [];
}
