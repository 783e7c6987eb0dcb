import { METHODS } from 'node:http';
import { overlap, type Pattern } from '../routing/pattern.ts';
import { nearest } from './nearest.ts';
import type { Settings, TenantSettings } from './settings.ts';
import { largestCeilingOf } from './tenant-accounts.ts';
import { type Path, type Source, showPath } from './yaml-source.ts';

/** Time in which a key can be replaced without haste. */
const ENDS_SOON_MS = 14 * 24 * 3_600_000;
/** The gateway rejects the other two that Node reads. */
const KNOWN_METHODS = METHODS.filter((method) => method !== 'TRACE' && method !== 'CONNECT');

/** Warnings of options that are valid and probably not what was meant. @param sources the files as they were written */
export function likelyMistakes(settings: Settings, sources: readonly Source[], now: number): string[] {
  const enabled = [...settings.tenants.values()].filter(({ disabled }) => !disabled);
  return [
    ...[...new Set(sources)].flatMap(placeholders),
    ...samePorts(settings),
    ...enabled.flatMap((tenant) => [...permissions(tenant, settings), ...limits(tenant, settings, now)]),
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

function samePorts({ listen: { traffic, admin } }: Settings): string[] {
  const collide = traffic.host === admin.host || [traffic.host, admin.host].some((host) => ANY_HOST.includes(host));
  if (traffic.port === 0 || traffic.port !== admin.port || !collide) return [];
  return [`listen.traffic.port and listen.admin.port are both ${traffic.port}: only one of them can listen`];
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
  const { id, keys, quota } = tenant;
  const warnings = keys.flatMap(({ id: key, expiresAtMs }) => {
    const isSoon = expiresAtMs !== null && expiresAtMs > now && expiresAtMs - now <= ENDS_SOON_MS;
    return isSoon ? [`tenants.${id}: the key ${key} ends on ${new Date(expiresAtMs).toISOString()}`] : [];
  });
  const ceiling = largestCeilingOf(tenant, settings);
  if (quota.rate !== null && quota.rate > ceiling) {
    warnings.push(`tenants.${id}.quota.rate is above the ceiling: no more than ${ceiling} a minute are ever sent`);
  }
  return warnings;
}
