import type { IdentitySettings, Settings } from './settings.ts';
import type { Path } from './yaml-source.ts';

type TokenIdentity = Extract<IdentitySettings, { kind: 'token' }>;

/** An identity, and the place to report. */
interface Placed<T = IdentitySettings> {
  readonly tenant: string;
  readonly index: number;
  readonly identity: T;
}

type Report = (path: Path, message: string) => void;

/**
 * Checks that issuers and identities are known, and that no caller can be two tenants where the configuration shows it.
 *
 * @param reportIssuer a problem of the gateway's file
 * @param report a problem of the tenants' file
 */
export function checkIdentities(settings: Settings, reportIssuer: Report, report: Report): void {
  const { issuers } = settings.identity;
  const byIssuer = new Map<string, string>();
  for (const { id, issuer } of issuers.values()) {
    const other = byIssuer.get(issuer);
    if (other !== undefined) {
      reportIssuer(['identity', 'issuers', id, 'issuer'], `is the issuer "${other}" as well`);
    }
    byIssuer.set(issuer, id);
  }
  const placed = [...settings.tenants.values()].flatMap(({ id: tenant, identities }) =>
    identities.map((identity, index): Placed => ({ tenant, index, identity })),
  );
  const problem = ({ tenant, index }: Placed, option: string[], message: string): void =>
    report(['tenants', tenant, 'identities', index, ...option], message);
  for (const each of placed) {
    const { identity } = each;
    if (identity.kind === 'token' && !issuers.has(identity.issuer)) {
      const known = issuers.size === 0 ? 'there are none' : `known are ${[...issuers.keys()].join(', ')}`;
      problem(each, ['issuer'], `there is no such issuer in identity.issuers; ${known}`);
    }
    if (identity.kind === 'certificate' && (settings.listen.traffic.tls?.clientAuth ?? 'none') === 'none') {
      problem(each, ['certificate'], 'needs client certificates on the traffic port: listen.traffic.tls.clientCaFile');
    }
  }
  checkIds(settings, report);
  checkCertificates(placed, problem);
  checkOverlaps(placed.filter(isToken), problem);
}

type Problem = (at: Placed, option: string[], message: string) => void;

/** Logs and metrics distinguish the keys and identities of a tenant by their id. */
function checkIds(settings: Settings, report: Report): void {
  for (const { id: tenant, keys, identities } of settings.tenants.values()) {
    const ids = new Set(keys.map(({ id }) => id));
    for (const [index, { id }] of identities.entries()) {
      if (ids.has(id)) {
        report(['tenants', tenant, 'identities', index, 'id'], `the id ${id} is there twice`);
      }
      ids.add(id);
    }
  }
}

function checkCertificates(placed: readonly Placed[], problem: Problem): void {
  const owners = new Map<string, string>();
  for (const each of placed) {
    if (each.identity.kind !== 'certificate') continue;
    const { uri } = each.identity;
    const owner = owners.get(uri);
    if (owner !== undefined) problem(each, ['certificate'], belongsTo(owner));
    owners.set(uri, each.tenant);
  }
}

/**
 * A token with all claims of an identity also has those of every identity that names a part of them. The parts are looked up, so that
 * thousands of identities are not compared with each other.
 */
function checkOverlaps(placed: readonly Placed<TokenIdentity>[], problem: Problem): void {
  const known = new Map<string, Placed>();
  for (const each of placed) {
    const name = claimsOf(each.identity).join();
    const equal = known.get(name);
    if (equal === undefined) known.set(name, each);
    else problem(each, [], equal.tenant === each.tenant ? 'is there twice' : belongsTo(equal.tenant));
  }
  for (const each of placed) {
    const claims = claimsOf(each.identity);
    const wider = partsOf(claims)
      .flatMap((part) => (part.length < claims.length ? (known.get(part.join()) ?? []) : []))
      .find(({ tenant }) => tenant !== each.tenant);
    if (wider !== undefined) problem(each, [], belongsTo(wider.tenant));
  }
}

/** In an order that does not depend on how they are written. */
function claimsOf({ issuer, claims }: TokenIdentity): string[] {
  return [...claims].map(([name, value]) => JSON.stringify([issuer, name, value])).sort();
}

/** All selections; the schema bounds the number of claims. */
function partsOf(claims: readonly string[]): string[][] {
  const parts: string[][] = [[]];
  for (const claim of claims) parts.push(...parts.map((part) => [...part, claim]));
  return parts;
}

function isToken(placed: Placed): placed is Placed<TokenIdentity> {
  return placed.identity.kind === 'token';
}

function belongsTo(tenant: string): string {
  return `is an identity of "${tenant}" as well: a caller must belong to one tenant`;
}
