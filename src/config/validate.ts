import type { OptionFiles } from './option-files.ts';
import type { GatewayInput } from './schema.ts';
import type { IdentitySettings, Settings } from './settings.ts';
import { accountsIn, checkTenantAccounts } from './tenant-accounts.ts';
import type { TenantInput } from './tenant-schema.ts';
import type { Path, Source } from './yaml-source.ts';

/** The options of all files; each part is valid by itself. */
export interface BuildInput {
  readonly gateway: GatewayInput;
  readonly gatewaySource: Source;
  readonly tenants: Record<string, TenantInput>;
  readonly tenantsSource: Source;
  readonly fromFiles: readonly string[];
  readonly named: OptionFiles;
  /** From the environment. */
  readonly logLevel: GatewayInput['log']['level'] | undefined;
  readonly revision: string;
  readonly now: number;
}

/** Adds a problem, with its line. */
export type Report = (path: Path, message: string) => void;

export interface Checked {
  readonly settings: Settings;
  readonly input: BuildInput;
  /** A problem of the gateway's file. */
  readonly report: Report;
  /** A problem of the tenants' file. */
  readonly reportTenant: Report;
}

/** Checks references, duplicates and the sums of the quotas, which need the whole configuration. */
export function validateSettings(checked: Checked): void {
  checkAccounts(checked);
  checkReferences(checked);
  checkTenants(checked);
  checkKeys(checked);
  checkAdminTokens(checked);
  checkIssuers(checked);
  checkIdentities(checked);
  checkTenantAccounts(checked.settings, checked.input.tenants, checked.reportTenant);
}

/** Calls `found` for each item whose name an earlier one has. */
function eachRepeated<T>(items: Iterable<T>, nameOf: (item: T) => string, found: (item: T, earlier: T) => void): void {
  const known = new Map<string, T>();
  for (const item of items) {
    const earlier = known.get(nameOf(item));
    if (earlier !== undefined) found(item, earlier);
    known.set(nameOf(item), item);
  }
}

function checkAccounts({ settings: { accounts }, report }: Checked): void {
  if (accounts.size === 0) report(['accounts'], 'must name at least one account');
  for (const { id, credentials } of accounts.values()) {
    eachRepeated(
      credentials,
      (each) => each.id,
      (each) => report(['accounts', id, 'credentials', credentials.indexOf(each), 'id'], 'this id is there twice'),
    );
  }
}

function checkReferences({ settings, input, report }: Checked): void {
  const known = (names: Iterable<string>) => `known are ${[...names].join(', ')}`;
  for (const { id, account } of settings.upstreams.values()) {
    if (account === '' || settings.accounts.has(account)) continue;
    report(['upstreams', id, 'account'], `there is no such account; ${known(settings.accounts.keys())}`);
  }
  for (const [index, { upstream, credential }] of settings.routes.entries()) {
    const target = settings.upstreams.get(upstream);
    if (target === undefined) {
      const path = input.gateway.routes === undefined ? ['routes'] : ['routes', index, 'upstream'];
      report(path, `there is no such upstream; ${known(settings.upstreams.keys())}`);
    }
    const account = settings.accounts.get(target?.account ?? '');
    const ids = account?.credentials.map(({ id }) => id) ?? [];
    if (credential === null || account === undefined || ids.includes(credential)) continue;
    report(['routes', index, 'credential'], `account "${account.id}" has no such credential; ${known(ids)}`);
  }
}

function checkTenants({ settings, reportTenant }: Checked): void {
  if (settings.tenants.size === 0) reportTenant(['tenants'], 'must name at least one tenant');
  const reservedByAccount = new Map<string, number>();
  for (const tenant of settings.tenants.values()) {
    for (const { id, quota } of accountsIn(tenant, settings.accounts)) {
      const before = reservedByAccount.get(id) ?? 0;
      const sum = before + tenant.quota.reserved;
      reservedByAccount.set(id, sum);
      if (sum <= quota.ceiling || before > quota.ceiling) continue;
      const message = `brings the reserved rates of account "${id}" to ${sum}, above its ceiling of ${quota.ceiling}`;
      reportTenant(['tenants', tenant.id, 'quota', 'reserved'], message);
    }
  }
}

/** Logs and metrics distinguish the keys and identities of a tenant by their id. */
function checkKeys({ settings, reportTenant }: Checked): void {
  const all = [...settings.tenants.values()].flatMap(({ id: tenant, keys, identities }) => {
    const own = keys.map(({ id, sha256 }, index) => ({ tenant, id, sha256, path: ['tenants', tenant, 'keys', index] }));
    const others = identities.map(({ id }, index) => ({ id, path: ['tenants', tenant, 'identities', index] }));
    eachRepeated(
      [...own, ...others],
      ({ id }) => id,
      ({ id, path }) => reportTenant([...path, 'id'], `the id ${id} is there twice`),
    );
    return own;
  });
  eachRepeated(
    all,
    ({ sha256 }) => sha256,
    ({ path }, { tenant }) =>
      reportTenant([...path, 'sha256'], `is the key of "${tenant}" as well: a key must belong to one tenant`),
  );
}

function checkAdminTokens({ settings, report }: Checked): void {
  const { token, tokens } = settings.listen.admin;
  const path = ['listen', 'admin', 'tokens'];
  const first = token === null ? [] : [{ id: 'admin', token, index: -1 }];
  const all = [...first, ...tokens.map((each, index) => ({ ...each, index }))];
  eachRepeated(
    all,
    ({ id }) => id,
    ({ index }) => report([...path, index, 'id'], 'this id is there twice'),
  );
  eachRepeated(
    all,
    (each) => each.token.reveal(),
    ({ index }) => report([...path, index, 'token'], 'this token is there twice: its holder would be unknown'),
  );
}

function checkIssuers({ settings, report }: Checked): void {
  eachRepeated(
    settings.identity.issuers.values(),
    ({ issuer }) => issuer,
    ({ id }, other) => report(['identity', 'issuers', id, 'issuer'], `is the issuer "${other.id}" as well`),
  );
}

type TokenIdentity = Extract<IdentitySettings, { kind: 'token' }>;

/** An identity, and how to report a problem of it. */
interface Placed<T = IdentitySettings> {
  readonly tenant: string;
  readonly identity: T;
  readonly problem: (option: readonly string[], message: string) => void;
}

/** Issuers are known, and no caller can be two tenants where the configuration shows it. */
function checkIdentities({ settings, reportTenant }: Checked): void {
  const { issuers } = settings.identity;
  const placed = [...settings.tenants.values()].flatMap(({ id: tenant, identities }) =>
    identities.map((identity, index): Placed => {
      const path = ['tenants', tenant, 'identities', index];
      return { tenant, identity, problem: (option, message) => reportTenant([...path, ...option], message) };
    }),
  );
  for (const { identity, problem } of placed) {
    if (identity.kind === 'token' && !issuers.has(identity.issuer)) {
      const known = issuers.size === 0 ? 'there are none' : `known are ${[...issuers.keys()].join(', ')}`;
      problem(['issuer'], `there is no such issuer in identity.issuers; ${known}`);
    }
    if (identity.kind === 'certificate' && (settings.listen.traffic.tls?.clientAuth ?? 'none') === 'none') {
      problem(['certificate'], 'needs client certificates on the traffic port: listen.traffic.tls.clientCaFile');
    }
  }
  eachRepeated(
    placed.flatMap(({ identity, ...each }) => (identity.kind === 'certificate' ? { ...each, identity } : [])),
    ({ identity }) => identity.uri,
    ({ problem }, { tenant }) => problem(['certificate'], belongsTo(tenant)),
  );
  checkOverlaps(placed.flatMap(({ identity, ...each }) => (identity.kind === 'token' ? { ...each, identity } : [])));
}

/**
 * A token with all claims of an identity also has those of every identity that names a part of them. The parts are looked up, so that
 * thousands of identities are not compared with each other.
 */
function checkOverlaps(placed: readonly Placed<TokenIdentity>[]): void {
  const known = new Map<string, Placed>();
  for (const each of placed) {
    const name = claimsOf(each.identity).join();
    const equal = known.get(name);
    if (equal === undefined) known.set(name, each);
    else each.problem([], equal.tenant === each.tenant ? 'is there twice' : belongsTo(equal.tenant));
  }
  for (const { tenant, identity, problem } of placed) {
    const claims = claimsOf(identity);
    const wider = partsOf(claims)
      .flatMap((part) => (part.length < claims.length ? (known.get(part.join()) ?? []) : []))
      .find((other) => other.tenant !== tenant);
    if (wider !== undefined) problem([], belongsTo(wider.tenant));
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

function belongsTo(tenant: string): string {
  return `is an identity of "${tenant}" as well: a caller must belong to one tenant`;
}
