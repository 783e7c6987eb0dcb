import { METHODS } from 'node:http';
import { createRuleFinder } from '../cache/lookup.ts';
import { overlap, type Pattern, splitPath } from '../routing/pattern.ts';
import { nearest } from './nearest.ts';
import { cacheRuleDefaults, neverStored } from './patchworks-defaults.ts';
import type { AccountSettings, CertificateSummary, Settings, TenantSettings } from './settings.ts';
import { largestCeilingOf } from './tenant-accounts.ts';
import { type Path, type Source, showPath } from './yaml-source.ts';

/** Time in which a key can be replaced without haste. */
const ENDS_SOON_MS = 14 * 24 * 3_600_000;
/** The gateway rejects the other two that Node reads. */
const KNOWN_METHODS = METHODS.filter((method) => method !== 'TRACE' && method !== 'CONNECT');

/** Names what is valid and probably not meant. @param sources the files as they were written */
export function warningsOf(settings: Settings, sources: readonly Source[], now: number): string[] {
  const { listen, accounts, tenants } = settings;
  const enabled = [...tenants.values()].filter(({ disabled }) => !disabled);
  return [
    ...[...new Set(sources)].flatMap(placeholders),
    ...enabled.flatMap((tenant) => [...permissions(tenant, settings), ...limits(tenant, settings, now)]),
    ...countsThatEnd(settings),
    ...[...accounts.values()].flatMap((account) => overcommitted(account, enabled)),
    ...revealingRules(settings),
    ...Object.entries({ traffic: listen.traffic, admin: listen.admin }).flatMap(([port, { tls }]) =>
      tls === null ? [] : weakCertificate(`listen.${port}.tls.certFile`, tls.certificate, now),
    ),
    ...ports(listen),
  ];
}

const WITHOUT_BRACES = /(?<![\w$])\$[A-Z][A-Z0-9_]{2,}/;
const NOT_CLOSED = /(?<!\$)\$\{[^}]*$/;

/** Text that looks like a placeholder and is none. A message quotes none of it: it may be a part of a password. */
function placeholders({ value }: Source): string[] {
  const warnings: string[] = [];
  const walk = (each: unknown, path: Path): void => {
    if (typeof each === 'object' && each !== null) {
      const isList = Array.isArray(each);
      for (const [name, item] of Object.entries(each)) walk(item, [...path, isList ? Number(name) : name]);
    }
    if (typeof each !== 'string' || !each.includes('$')) return;
    if (NOT_CLOSED.test(each)) warnings.push(`${showPath(path)} has a \${ without its }: it is not filled in`);
    else if (WITHOUT_BRACES.test(each)) {
      warnings.push(`${showPath(path)} has a $NAME without braces, which is not filled in: write "\${NAME}"`);
    }
  };
  walk(value, []);
  return warnings;
}

const ANY_HOST = ['0.0.0.0', '::'];
const THIS_HOST = ['127.0.0.1', '::1', 'localhost'];

function ports({ traffic, admin }: Settings['listen']): string[] {
  const warnings: string[] = [];
  const collide = traffic.host === admin.host || [traffic.host, admin.host].some((host) => ANY_HOST.includes(host));
  if (traffic.port !== 0 && traffic.port === admin.port && collide) {
    warnings.push(`listen.traffic.port and listen.admin.port are both ${traffic.port}: only one of them can listen`);
  }
  if (admin.token === null && admin.tokens.length === 0 && !THIS_HOST.includes(admin.host)) {
    warnings.push('listen.admin is reachable from other hosts and has no token');
  }
  return warnings;
}

/** Permissions of the tenant, and of its keys and identities. */
function permissions(tenant: TenantSettings, { routes, upstreams }: Settings): string[] {
  const option = `tenants.${tenant.id}`;
  const own = routes.filter(({ upstream }) => tenant.accounts.includes(upstreams.get(upstream)?.account ?? ''));
  const lists: [string, readonly Pattern[] | null][] = [
    [`${option}.allow`, tenant.allow],
    ...tenant.keys.map(({ allow }, index): [string, typeof allow] => [`${option}.keys[${index}].allow`, allow]),
    ...tenant.identities.map(({ allow }, i): [string, typeof allow] => [`${option}.identities[${i}].allow`, allow]),
  ];
  return lists.flatMap(([name, allow]) => {
    if (allow?.length === 0) return [`${name} is empty: it permits nothing`];
    return (allow ?? []).flatMap((pattern, index) => {
      const reason = unusable(
        pattern,
        own.map(({ match }) => match),
      );
      return reason === null ? [] : [`${name}[${index}] ("${pattern.text}") ${reason}`];
    });
  });
}

function unusable(pattern: Pattern, routes: readonly Pattern[]): string | null {
  const { method } = pattern;
  if (method !== null && !KNOWN_METHODS.includes(method)) {
    const near = nearest(method, KNOWN_METHODS);
    return `has a method that no request has${near === null ? '' : `; did you mean ${near}?`}`;
  }
  if (routes.some((route) => overlap(pattern, route))) return null;
  return 'matches no route of its account: it permits nothing';
}

function limits(tenant: TenantSettings, settings: Settings, now: number): string[] {
  const { id, keys, identities, quota } = tenant;
  const warnings = keys.flatMap(({ id: key, expiresAtMs }) => {
    if (expiresAtMs === null || expiresAtMs - now > ENDS_SOON_MS) return [];
    const end = expiresAtMs <= now ? 'has expired' : `ends on ${new Date(expiresAtMs).toISOString()}`;
    return [`tenants.${id}: the key ${key} ${end}`];
  });
  if (keys.length === 0 && identities.length === 0) {
    warnings.push(`tenants.${id} has neither key nor identity: no caller can use this tenant`);
  }
  const ceiling = largestCeilingOf(tenant, settings);
  if (quota.rate !== null && quota.rate > ceiling) {
    warnings.push(`tenants.${id}.quota.rate is above the ceiling: no more than ${ceiling} a minute are ever sent`);
  }
  return warnings;
}

function countsThatEnd({ accounts, redis, stateDir }: Settings): string[] {
  const hasBudgets = [...accounts.values()].some(({ quota }) => quota.budgets !== undefined);
  if (redis !== null || stateDir !== null || !hasBudgets) return [];
  return [
    'stateDir is not set: the counts of budgets begin at 0 after each restart, and more than a budget can be sent. Set it to a directory that survives a restart, or use Redis',
  ];
}

function overcommitted({ id: account, quota }: AccountSettings, enabled: readonly TenantSettings[]): string[] {
  const own = enabled.filter(({ accounts }) => accounts.includes(account));
  return [...(quota.budgets ?? [])].flatMap(([id, { limit }]) => {
    const sum = own.reduce((total, tenant) => total + (tenant.quota.budgets?.get(id) ?? 0), 0);
    if (sum <= limit) return [];
    return [
      `accounts.${account}.budgets.${id}: the tenants' parts of it together are ${sum}, above its limit of ${limit}: the last to send find nothing left`,
    ];
  });
}

/** Includes of a flow that bring variables or signed URLs. */
const SECRET_INCLUDES = ['variables', 'webhooks', 'callbacks'];
const MAX_NAMED = 3;

/** Rules that store secrets or customer data: rules of an operator replace the default ones, which never do. */
function revealingRules({ cache: { rules } }: Settings): string[] {
  if (rules === cacheRuleDefaults) return [];
  const find = createRuleFinder(rules);
  const revealed = new Map<number, string[]>();
  const requests = [
    ...neverStored.map((path): [string, string] => [path, '']),
    ...SECRET_INCLUDES.map((name): [string, string] => ['/api/v1/flows', `include=${name}`]),
  ];
  for (const [path, query] of requests) {
    const rule = find(splitPath(path), query);
    if (rule === null || rule === 'unless' || !rule.store) continue;
    const index = rules.indexOf(rule);
    revealed.set(index, [...(revealed.get(index) ?? []), query === '' ? path : `${path}?${query}`]);
  }
  return [...revealed].map(([index, paths]) => {
    const more = paths.length > MAX_NAMED ? ` and ${paths.length - MAX_NAMED} more` : '';
    const named = paths.slice(0, MAX_NAMED).join(', ');
    return `cache.rules[${index}] stores ${named}${more}, which have secrets or customer data: use store: false or unless`;
  });
}

/** An expired certificate only warns: an error would also stop a reload that removes a leaked key. */
function weakCertificate(option: string, certificate: CertificateSummary, now: number): string[] {
  const { names, notBeforeMs, notAfterMs } = certificate;
  const at = (ms: number) => new Date(ms).toISOString();
  const warnings: string[] = [];
  if (names.length === 0) warnings.push(`${option}: the certificate names no host (subjectAltName): callers refuse it`);
  if (notAfterMs <= now)
    warnings.push(`${option}: the certificate has expired on ${at(notAfterMs)}: callers refuse it`);
  if (notBeforeMs > now) warnings.push(`${option}: the certificate is valid only from ${at(notBeforeMs)}`);
  return warnings;
}
