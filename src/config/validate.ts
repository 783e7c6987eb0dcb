import type { GatewayInput } from './schema.ts';
import type { CertificateSummary, IssuerSettings, Settings, TenantSettings } from './settings.ts';
import { accountsIn, checkTenantAccounts, largestCeilingOf } from './tenant-accounts.ts';
import type { TenantInput } from './tenant-schema.ts';
import type { TlsFiles } from './tls.ts';
import { weakBudgets } from './validate-budgets.ts';
import { revealingRules } from './validate-cache.ts';
import { checkIdentities } from './validate-identities.ts';
import { likelyMistakes } from './validate-mistakes.ts';
import type { Path, Source } from './yaml-source.ts';

/** The options of all files; each part is valid by itself. */
export interface BuildInput {
  readonly gateway: GatewayInput;
  readonly gatewaySource: Source;
  readonly tenants: Record<string, TenantInput>;
  readonly tenantsSource: Source;
  readonly fromFiles: readonly string[];
  readonly tls: Pick<TlsFiles, 'traffic' | 'admin'>;
  readonly issuers: ReadonlyMap<string, IssuerSettings>;
  /** From the environment. */
  readonly logLevel: GatewayInput['log']['level'] | undefined;
  readonly revision: string;
  readonly now: number;
}

/** Adds a problem, with its line. */
export type Report = (source: Source, path: Path, message: string) => void;

export interface Checked {
  readonly settings: Settings;
  readonly input: BuildInput;
  readonly report: Report;
}

/** Checks references, duplicates and the sums of the quotas, which need the whole configuration. Returns warnings. */
export function validateSettings(checked: Checked): string[] {
  checkAccounts(checked);
  checkReferences(checked);
  checkTenants(checked);
  checkKeys(checked);
  checkAdminTokens(checked);
  const { settings, input, report } = checked;
  const ofTenants = (path: Path, message: string): void => report(input.tenantsSource, path, message);
  checkIdentities(settings, (path, message) => report(input.gatewaySource, path, message), ofTenants);
  checkTenantAccounts(settings, input.tenants, ofTenants);
  return weakSpots(checked);
}

function checkAccounts({ settings, input, report }: Checked): void {
  const source = input.gatewaySource;
  if (settings.accounts.size === 0) report(source, ['accounts'], 'must name at least one account');
  for (const account of settings.accounts.values()) {
    const seen = new Set<string>();
    for (const [index, credential] of account.credentials.entries()) {
      if (seen.has(credential.id)) {
        report(source, ['accounts', account.id, 'credentials', index, 'id'], 'this id is there twice');
      }
      seen.add(credential.id);
    }
  }
}

function checkReferences({ settings, input, report }: Checked): void {
  const source = input.gatewaySource;
  const known = (names: Iterable<string>) => `known are ${[...names].join(', ')}`;
  for (const upstream of settings.upstreams.values()) {
    if (upstream.account !== '' && !settings.accounts.has(upstream.account)) {
      report(
        source,
        ['upstreams', upstream.id, 'account'],
        `there is no such account; ${known(settings.accounts.keys())}`,
      );
    }
  }
  for (const [index, { upstream, credential }] of settings.routes.entries()) {
    const target = settings.upstreams.get(upstream);
    if (target === undefined) {
      const path = input.gateway.routes === undefined ? ['routes'] : ['routes', index, 'upstream'];
      report(source, path, `there is no such upstream; ${known(settings.upstreams.keys())}`);
    }
    const account = settings.accounts.get(target?.account ?? '');
    const ids = account?.credentials.map(({ id }) => id) ?? [];
    if (credential === null || account === undefined || ids.includes(credential)) continue;
    report(source, ['routes', index, 'credential'], `account "${account.id}" has no such credential; ${known(ids)}`);
  }
}

function checkTenants({ settings, input, report }: Checked): void {
  const source = input.tenantsSource;
  if (settings.tenants.size === 0) report(source, ['tenants'], 'must name at least one tenant');
  const reservedByAccount = new Map<string, number>();
  for (const tenant of settings.tenants.values()) {
    const path = ['tenants', tenant.id, 'quota', 'reserved'];
    for (const { id, quota } of accountsIn(tenant, settings.accounts)) {
      const before = reservedByAccount.get(id) ?? 0;
      const sum = before + tenant.quota.reserved;
      reservedByAccount.set(id, sum);
      if (sum <= quota.ceiling || before > quota.ceiling) continue;
      const message = `brings the reserved rates of account "${id}" to ${sum}, above its ceiling of ${quota.ceiling}`;
      report(source, path, message);
    }
  }
}

function checkKeys({ settings, input, report }: Checked): void {
  const owners = new Map<string, string>();
  for (const tenant of settings.tenants.values()) {
    const ids = new Set<string>();
    for (const [index, key] of tenant.keys.entries()) {
      const path = ['tenants', tenant.id, 'keys', index];
      if (ids.has(key.id)) report(input.tenantsSource, [...path, 'id'], 'this id is there twice');
      ids.add(key.id);
      const owner = owners.get(key.sha256);
      if (owner !== undefined) {
        report(
          input.tenantsSource,
          [...path, 'sha256'],
          `is the key of "${owner}" as well: a key must belong to one tenant`,
        );
      }
      owners.set(key.sha256, tenant.id);
    }
  }
}

function checkAdminTokens({ settings, input, report }: Checked): void {
  const { token, tokens } = settings.listen.admin;
  const ids = new Set(token === null ? [] : ['admin']);
  const values = new Set(token === null ? [] : [token.reveal()]);
  for (const [index, each] of tokens.entries()) {
    const path = ['listen', 'admin', 'tokens', index];
    if (ids.has(each.id)) report(input.gatewaySource, [...path, 'id'], 'this id is there twice');
    if (values.has(each.token.reveal())) {
      report(input.gatewaySource, [...path, 'token'], 'this token is there twice: its holder would be unknown');
    }
    ids.add(each.id);
    values.add(each.token.reveal());
  }
}

function weakSpots({ settings, input }: Checked): string[] {
  const warnings = likelyMistakes(settings, [input.gatewaySource, input.tenantsSource], input.now);
  for (const tenant of settings.tenants.values()) {
    if (tenant.disabled) continue;
    if (tenant.keys.length === 0 && tenant.identities.length === 0) {
      warnings.push(`tenants.${tenant.id} has neither key nor identity: no caller can use this tenant`);
    }
    for (const key of tenant.keys) {
      if (key.expiresAtMs !== null && key.expiresAtMs <= input.now) {
        warnings.push(`tenants.${tenant.id}: the key ${key.id} has expired`);
      }
    }
  }
  for (const { id, quota } of settings.accounts.values()) {
    if (quota.burst > quota.ceiling) {
      warnings.push(
        `accounts.${id}.quota.burst is above the ceiling: no more than ${quota.ceiling} are ever sent at once`,
      );
    }
  }
  warnings.push(...[...settings.tenants.values()].flatMap((tenant) => weakQuota(tenant, settings)));
  warnings.push(...weakBudgets(settings), ...revealingRules(settings));
  const { traffic, admin } = settings.listen;
  for (const [port, { tls }] of Object.entries({ traffic, admin })) {
    if (tls !== null) warnings.push(...weakCertificate(`listen.${port}.tls.certFile`, tls.certificate, input.now));
  }
  const isGuarded = admin.token !== null || admin.tokens.length > 0;
  if (!isGuarded && !['127.0.0.1', '::1', 'localhost'].includes(admin.host)) {
    warnings.push('listen.admin is reachable from other hosts and has no token');
  }
  return warnings;
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

function weakQuota(tenant: TenantSettings, settings: Settings): string[] {
  const { id, disabled, quota } = tenant;
  const { burst, reserved, maxWaitMs } = quota;
  const ceiling = largestCeilingOf(tenant, settings);
  const rate = quota.rate ?? ceiling;
  const option = `tenants.${id}.quota`;
  const betweenMs = 60_000 / Math.min(rate, ceiling);
  const warnings: string[] = [];
  if (reserved > rate) {
    warnings.push(`${option}.reserved is above its rate: no more than ${rate} a minute can be used`);
  }
  if (disabled && reserved > 0) warnings.push(`${option}.reserved is not kept while the tenant is disabled`);
  if (burst !== null && burst > ceiling) {
    warnings.push(`${option}.burst is above the ceiling: no more than ${ceiling} are ever sent at once`);
  }
  if (maxWaitMs > 0 && maxWaitMs < betweenMs) {
    const seconds = Math.round(betweenMs / 1000);
    warnings.push(
      `${option}.maxWait is shorter than the ${seconds} s between two of its requests: most that wait are refused all the same`,
    );
  }
  return warnings;
}
