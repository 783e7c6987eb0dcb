import { loadSettings, renderProblems } from '../config/load.ts';
import type { Settings } from '../config/model.ts';
import { type Io, say } from './io.ts';
import { readOptions, refusePositionals } from './options.ts';

const HELP = `usage: patchgate check [--config PATH]

Validates the configuration and prints what each account can send at most in any minute. Starts nothing.

  --config PATH   gateway.yaml (default: config/gateway.yaml)

Exit code 0: the gateway would start with it. 1: it would not, and every reason is printed.
`;

/** `patchgate check`. */
export async function check(args: string[], io: Io): Promise<number> {
  const options = readOptions('check', args, { config: { type: 'string' } }, HELP, io);
  if (!options.ok) return options.code;
  if (refusePositionals('check', options.positionals, io)) return 2;
  const path = options.values.config ?? 'config/gateway.yaml';
  const loaded = await loadSettings({ path, env: io.env });
  if (!loaded.ok) {
    say(io.stderr, renderProblems(loaded.problems));
    return 1;
  }
  for (const line of proof(loaded.settings)) say(io.stdout, line);
  for (const warning of loaded.warnings) say(io.stdout, `warning: ${warning}`);
  say(io.stdout, `ok: ${loaded.files.join(', ')}`);
  return 0;
}

/** The arithmetic, account by account. */
function proof(settings: Settings): string[] {
  return [...settings.accounts.values()].flatMap(({ id, quota }) => {
    const tenants = [...settings.tenants.values()].filter((tenant) => tenant.account === id);
    const sum = (pick: (tenant: (typeof tenants)[number]) => number): number =>
      tenants.reduce((total, tenant) => total + pick(tenant), 0);
    const spare = quota.limit - quota.ceiling;
    return [
      `account ${id}`,
      `  at most ${quota.ceiling} requests in any 60 s, whatever the latency, retries and logins included`,
      `  Patchworks allows ${quota.limit}: ${spare} are left for others on the account`,
      `  at most ${Math.min(quota.burst, quota.ceiling)} at once after a pause, then ${quota.ceiling} a minute`,
      ...tenants.map(
        ({ id: tenant, quota: own, disabled }) =>
          `  tenant ${tenant}: ${own.rate} a minute, ${own.burst} at once, ${own.guarantee} guaranteed${disabled ? ' (disabled)' : ''}`,
      ),
      `  guaranteed together: ${sum((tenant) => tenant.quota.guarantee)} of ${quota.ceiling}`,
    ];
  });
}
