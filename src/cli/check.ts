import { parseJwks } from '../auth/key-set.ts';
import { systemClock } from '../clock.ts';
import { loadSettings, renderProblems } from '../config/load.ts';
import type { AccountSettings, IssuerSettings, JwksSettings, Settings, TenantSettings } from '../config/settings.ts';
import { tenantQuotaIn } from '../config/tenant-accounts.ts';
import type { Budget } from '../quota/budgets.ts';
import { capacityOf, fallbackShare, goodputAt } from '../quota/capacity.ts';
import type { AccountQuota } from '../quota/quota-store.ts';
import { CONFIG_OPTION, DEFAULT_CONFIG, type Io, readOptions, say } from './command-line.ts';

const HELP = `usage: patchgate check [PATH] [--online]

Validates the configuration and prints the most that each account can send in any minute, and whether
the keys of issuers of tokens can be read. It starts nothing.

  PATH                     gateway.yaml (default: ${DEFAULT_CONFIG})
  -c PATH, --config PATH   the same
  --online                 send one request with each credential, and show what Patchworks answers and which limit it
                           advertises. They count in the account's limit

Exit code 0: the configuration is valid. 1: it is not, and all errors are printed; or Patchworks rejects a credential.
`;

/** The longest: the rate that lasts in every month. */
const DAYS_OF_A_MONTH = 31;

/** `patchgate check`. */
export async function check(args: string[], io: Io): Promise<number> {
  const options = readOptions('check', args, { ...CONFIG_OPTION, online: { type: 'boolean' } }, HELP, io, true);
  if (!options.ok) return options.code;
  const [path = DEFAULT_CONFIG, ...more] = [options.values.config ?? [], options.positionals].flat();
  if (more.length > 0) {
    say(io.stderr, 'patchgate check: give one file; see patchgate check --help');
    return 2;
  }
  const loaded = await loadSettings({ path, env: io.env });
  if (!loaded.ok) {
    say(io.stderr, renderProblems(loaded.problems));
    return 1;
  }
  for (const line of accountLimits(loaded.settings)) say(io.stdout, line);
  for (const line of certificates(loaded.settings)) say(io.stdout, line);
  for (const line of await checkIssuers(loaded.settings)) say(io.stdout, line);
  for (const warning of loaded.warnings) say(io.stdout, `warning: ${warning}`);
  say(io.stdout, `ok: ${loaded.files.join(', ')}`);
  if (options.values.online !== true) return 0;
  // Loaded here: without it the command needs no HTTP client.
  const { checkOnline } = await import('../gateway/check-online.ts');
  const online = await checkOnline(loaded.settings);
  for (const line of online.lines) say(io.stdout, line);
  return online.ok ? 0 : 1;
}

function accountLimits(settings: Settings): string[] {
  return [...settings.accounts.values()].flatMap((account) => limitsOf(account, settings));
}

/** The limits of an account and its tenants, one line each. */
function limitsOf(account: AccountSettings, { tenants: all, redis }: Settings): string[] {
  const { id, quota } = account;
  const tenants = [...all.values()].filter(({ accounts }) => accounts.includes(id));
  const { limit, ceiling, burst } = quota;
  // A disabled tenant has no share.
  const enabled = tenants.filter(({ disabled }) => !disabled);
  const { unreserved, rates, shares } = capacityOf(
    quota,
    new Map(enabled.map((each) => [each.id, tenantQuotaIn(each, account)])),
  );
  return [
    `account ${id}`,
    `  at most ${ceiling} requests in any 60 s, whatever the latency, retries and logins included:`,
    `    a slot is held from admission until 60 s after the response, and at most ${ceiling} are held at once`,
    `  Patchworks allows ${limit}: ${limit - ceiling} are left for others on the account`,
    `  at most ${Math.min(burst, ceiling)} at once after a pause, then one every ${Math.round(60_000 / ceiling)} ms`,
    `  with responses after 0.2 s it sends up to ${round(goodputAt(ceiling, 200))} a minute, after 5 s ${round(goodputAt(ceiling, 5_000))}`,
    ...tenants.map((each) => {
      const { id: tenant, disabled, enforcement } = each;
      const own = tenantQuotaIn(each, account);
      if (disabled) return `  tenant ${tenant}: disabled`;
      const guaranteed = own.reserved > 0 ? `, ${own.reserved} a minute reserved` : '';
      const share = `${round(shares.get(tenant) ?? 0)} when all compete (weight ${own.weight})`;
      const observed = enforcement === 'observe' ? ' (observed: its rate, budgets and allow reject nothing)' : '';
      return `  tenant ${tenant}: ${own.rate} a minute, ${own.burst} at once${guaranteed}; ${share}${observed}`;
    }),
    `  reserved together ${ceiling - unreserved} of ${ceiling}; ${unreserved} are left to share`,
    rates > ceiling
      ? `  the tenants' own rates together are ${round(rates)}, more than the ceiling: at times they compete`
      : `  the tenants' own rates together are ${round(rates)}, within the ceiling: they never compete for long`,
    ...[...(quota.budgets ?? [])].flatMap(([name, budget]) => budgetLines(name, budget, quota, tenants)),
    withoutRedis(ceiling, redis),
  ];
}

/** A budget and the tenants' parts of it. At the ceiling all requests would be of its kind. */
function budgetLines(
  name: string,
  { limit, per, timeZone, match }: Budget,
  { ceiling }: AccountQuota,
  tenants: readonly TenantSettings[],
): string[] {
  const perDay = per === 'day' ? limit : limit / DAYS_OF_A_MONTH;
  const hours = limit / (ceiling * 60);
  const parts = tenants.flatMap(({ id, quota, disabled }) => {
    const part = quota.budgets?.get(name);
    return part === undefined || disabled ? [] : [{ id, part }];
  });
  const sum = parts.reduce((total, { part }) => total + part, 0);
  return [
    `  budget ${name}: ${limit} a ${per} (${timeZone}) of ${match.map(({ text }) => text).join(', ')}`,
    `    that is ${round(perDay)} a day, or ${round(perDay / 1440)} a minute all day; at the ceiling it is used up after ${round(hours)} hours`,
    ...parts.map(
      ({ id, part }) =>
        `    tenant ${id}: ${part} a ${per}, ${round(part / (per === 'day' ? 1 : DAYS_OF_A_MONTH))} a day`,
    ),
    parts.length === 0
      ? '    no tenant has a part of its own'
      : `    the parts of tenants together are ${sum} of ${limit}${parts.length < tenants.length ? '; the others use what is left' : ''}`,
  ];
}

/** The certificate of each port, and whether it asks for client certificates. */
function certificates({ listen: { traffic, admin } }: Settings): string[] {
  return Object.entries({ traffic, admin }).flatMap(([port, { tls }]) => {
    if (tls === null) return [];
    const { certificate, clientAuth, minVersion } = tls;
    const asked = clientAuth === 'none' ? '' : `, client certificates ${clientAuth}`;
    const names = certificate.names.length === 0 ? 'no host' : certificate.names.join(', ');
    const until = new Date(certificate.notAfterMs).toISOString().replace(/\.\d+/, '');
    return [`${port} port: ${minVersion} and newer${asked}; certificate for ${names} until ${until}`];
  });
}

function withoutRedis(ceiling: number, redis: Settings['redis']): string {
  if (redis === null) return '  state is embedded: this holds for one process; two processes would send twice as much';
  if (redis.onOutage === 'closed') return '  without Redis nothing is sent';
  const shares = [1, 2, 3, 5].map((replicas) => `${fallbackShare(ceiling, replicas)} with ${replicas}`).join(', ');
  return `  without Redis each replica goes on with an equal share a minute: ${shares}`;
}

function round(count: number): string {
  return String(Math.round(count * 10) / 10);
}

/**
 * Describes each issuer of tokens, and whether its keys can be read from here. If they cannot, that is a warning: the gateway starts
 * all the same, and this machine may not reach what the gateway reaches.
 */
async function checkIssuers({ identity, tenants }: Settings): Promise<string[]> {
  const lines = await Promise.all([...identity.issuers.values()].map((issuer) => linesOf(issuer, tenants)));
  return lines.flat();
}

async function linesOf(issuer: IssuerSettings, tenants: Settings['tenants']): Promise<string[]> {
  const { id, algorithms, audiences, jwks } = issuer;
  const known = [...tenants.values()].flatMap(({ identities }) =>
    identities.filter((each) => each.kind === 'token' && each.issuer === id),
  );
  const read = await readKeys(jwks);
  return [
    `issuer ${id}: ${issuer.issuer} for ${audiences.join(', ')}, ${algorithms.join(', ')}`,
    `  identities of tenants: ${known.length}`,
    read.ok
      ? `  keys from ${placeOf(jwks)}: ${read.count}`
      : `warning: identity.issuers.${id}.jwks: ${placeOf(jwks)}: ${read.reason}; its tokens get 503 until the gateway can read the keys`,
  ];
}

async function readKeys(jwks: JwksSettings): Promise<{ ok: true; count: number } | { ok: false; reason: string }> {
  if (jwks.kind === 'file') return parseJwks(jwks.jwks);
  // Loaded here, because most configurations need no HTTP client for a check.
  const { jwksReader } = await import('../gateway/issuers.ts');
  const text = await jwksReader(jwks, systemClock, () => {})(new AbortController().signal);
  return text.ok ? parseJwks(text.text) : text;
}

function placeOf(jwks: JwksSettings): string {
  return jwks.kind === 'file' ? jwks.path : jwks.url;
}
