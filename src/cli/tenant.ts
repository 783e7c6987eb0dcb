import { editTenants } from '../config/edit-tenants.ts';
import { ID, ID_RULE } from '../config/option-types.ts';
import { addTenant, type NewTenant, tenantSnippet } from '../config/tenants-document.ts';
import { parsePattern } from '../routing/pattern.ts';
import { CONFIG_OPTION, DEFAULT_CONFIG, failed, type Io, readOptions, say } from './command-line.ts';

const HELP = `usage: patchgate tenant add NAME [--rate N] [--allow PATTERN]… [--account NAME]… [--write]

add   adds a tenant: prints its YAML, or edits the file of the tenants in place. Its keys: patchgate key create

  -c, --config PATH gateway.yaml (default: config/gateway.yaml)
  --rate N          requests a minute (default: the ceiling of its account)
  --allow PATTERN   what it may call, such as "GET /api/v1/**"; repeatable (default: everything but the denylist)
  --account NAME    needed where there are several accounts; repeatable
  --write           edit the file of the tenants, once the whole configuration is valid with the change
`;

const OPTIONS = {
  ...CONFIG_OPTION,
  rate: { type: 'string' },
  allow: { type: 'string', multiple: true },
  account: { type: 'string', multiple: true },
  write: { type: 'boolean' },
} as const;

/** `patchgate tenant`. */
export async function tenant(args: string[], io: Io): Promise<number> {
  const options = readOptions('tenant', args, OPTIONS, HELP, io, true);
  if (!options.ok) return options.code;
  const [action, name, ...more] = options.positionals;
  if (action !== 'add' || name === undefined || more.length > 0) {
    io.stderr.write(HELP);
    return 2;
  }
  const { rate, allow, account, write } = options.values;
  const wrong = wrongArgument(name, rate, allow);
  if (wrong !== null) return failed(io, 'tenant', wrong, 2);
  const added: NewTenant = {
    name,
    ...(account !== undefined && { accounts: account }),
    ...(allow !== undefined && { allow }),
    ...(rate !== undefined && { rate: Number(rate) }),
  };
  if (!write) {
    const edited = addTenant('', added);
    if (edited.ok) io.stdout.write(tenantSnippet(edited.text, name));
    return 0;
  }
  const path = options.values.config ?? DEFAULT_CONFIG;
  const written = await editTenants({ path, env: io.env }, (text) => addTenant(text, added));
  if (!written.ok) return failed(io, 'tenant', written.reason);
  say(io.stdout, `${written.file}: tenant ${name} added`);
  say(io.stderr, `it has no key yet: patchgate key create ${name} --write`);
  return 0;
}

function wrongArgument(name: string, rate: string | undefined, allow: readonly string[] = []): string | null {
  if (!ID.test(name)) return `a tenant name must have ${ID_RULE}`;
  if (rate !== undefined && !(Number(rate) > 0)) return '--rate must be a number above 0';
  for (const pattern of allow) {
    const parsed = parsePattern(pattern);
    if (!parsed.ok) return `--allow: ${parsed.reason}`;
  }
  return null;
}
