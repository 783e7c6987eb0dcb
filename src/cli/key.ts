import { createHash, randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { editTenants, readTenants, type Written } from '../config/edit-tenants.ts';
import { ID, ID_RULE, parseDuration } from '../config/option-types.ts';
import {
  addKey,
  type Edited,
  idsOf,
  keySnippet,
  type NewKey,
  removeKey,
  tenantSnippet,
} from '../config/tenants-document.ts';
import { CONFIG_OPTION, DEFAULT_CONFIG, failed, type Io, type OptionValues, readOptions, say } from './command-line.ts';
import { listKeys } from './key-list.ts';

const HELP = `usage: patchgate key create TENANT [--expires 180d] [--id ID] [--key-file PATH] [--write] [--json]
       patchgate key revoke TENANT ID [--write]
       patchgate key list [--unused 30d] [--admin URL] [--token-file PATH] [--json]
       patchgate key hash

create   makes a new key: YAML with its SHA-256 on standard output, the key once on standard error
revoke   removes a key from its tenant, and prints the tenant that is left
list     shows the keys of all tenants, when they end and when they were last used
hash     reads a key from standard input and prints its SHA-256

  -c, --config PATH    gateway.yaml (default: config/gateway.yaml)
  --write              edit the file of the tenants in place, once the whole configuration is valid with the change
  --expires DURATION   the gateway rejects the key after this time, such as 180d (default: never)
  --id ID              name of the key (default: the month, such as 2026-11; then 2026-11-b, 2026-11-c, …)
  --key-file PATH      write the key to a new file that only its owner can read, in place of standard error
  --json               output for scripts
  --admin URL          read the last use from a running gateway; its token is in the environment variable ADMIN_TOKEN
  --token-file PATH    or in this file
  --unused DURATION    only keys that were not used for so long, such as 30d; needs --admin
`;

const OPTIONS = {
  ...CONFIG_OPTION,
  write: { type: 'boolean' },
  expires: { type: 'string' },
  id: { type: 'string' },
  'key-file': { type: 'string' },
  json: { type: 'boolean' },
  admin: { type: 'string' },
  'token-file': { type: 'string' },
  unused: { type: 'string' },
} as const;

/** A key of 32 random bytes cannot be guessed. */
const KEY_BYTES = 32;
/** Scanners for leaked secrets can search for it. */
const KEY_PREFIX = 'pgk';
const MAX_INPUT_BYTES = 64 * 1024;

/** `patchgate key`. */
export async function key(args: string[], io: Io): Promise<number> {
  const options = readOptions('key', args, OPTIONS, HELP, io, true);
  if (!options.ok) return options.code;
  const { values } = options;
  const [action, tenant, id, ...more] = options.positionals;
  if (more.length === 0) {
    if (action === 'create' && tenant !== undefined && id === undefined) {
      return create(tenant, values, io);
    }
    if (action === 'revoke' && tenant !== undefined && id !== undefined) {
      return revoke(tenant, id, values, io);
    }
    if (action === 'list' && tenant === undefined) {
      return listKeys(values, io);
    }
    if (action === 'hash' && tenant === undefined) return hash(io);
  }
  io.stderr.write(HELP);
  return 2;
}

type Values = OptionValues<typeof OPTIONS>;

async function create(tenant: string, options: Values, io: Io): Promise<number> {
  const wrong = wrongArgument(tenant, options);
  if (wrong !== null) return failed(io, 'key', wrong, 2);
  const { config, 'key-file': keyFile, write = false } = options;
  const now = new Date();
  const lifeMs = options.expires === undefined ? null : parseDuration(options.expires);
  const secret = `${KEY_PREFIX}_${tenant}_${randomBytes(KEY_BYTES).toString('base64url')}`;
  const made = (text: string): NewKey | null => {
    const id = options.id ?? unusedId(now.toISOString().slice(0, 7), idsOf(text, tenant));
    if (id === null) return null;
    const expires = lifeMs === null ? null : new Date(now.getTime() + lifeMs).toISOString().replace(/\.\d+Z$/, 'Z');
    return { id, sha256: sha256(secret), ...(expires !== null && { expires }) };
  };
  if (keyFile !== undefined) {
    try {
      await writeFile(keyFile, `${secret}\n`, { flag: 'wx', mode: 0o600 });
    } catch (error) {
      return failed(io, 'key', `${keyFile} cannot be written (${codeOf(error)}): name a file that does not exist yet`);
    }
  }
  const added = await addedKey({ path: config ?? DEFAULT_CONFIG, env: io.env }, write, tenant, made);
  if (!added.ok) {
    if (keyFile !== undefined) await rm(keyFile, { force: true });
    return failed(io, 'key', added.reason);
  }
  const { newKey, file } = added;
  if (options.json) {
    const known = { tenant, ...newKey, expires: newKey.expires ?? null, file };
    say(io.stdout, JSON.stringify({ ...known, ...(keyFile === undefined ? { key: secret } : { keyFile }) }));
    return 0;
  }
  const until = newKey.expires === undefined ? 'without an end' : `until ${newKey.expires}`;
  say(
    io.stderr,
    keyFile === undefined ? `key of ${tenant}, shown only once: ${secret}` : `key of ${tenant}: ${keyFile}`,
  );
  if (file === null) io.stdout.write(added.hint + keySnippet(tenant, newKey));
  else say(io.stdout, `${file}: key ${newKey.id} of ${tenant} added, ${until}`);
  return 0;
}

type Added =
  | { readonly ok: true; readonly newKey: NewKey; readonly file: string | null; readonly hint: string }
  | { readonly ok: false; readonly reason: string };

const NO_ID_LEFT = 'the tenant has keys with all ids of this month: choose one with --id';

/** `file` is null where nothing is written: then the configuration is asked for the ids in use only, and need not be there. */
async function addedKey(
  config: { readonly path: string; readonly env: Io['env'] },
  write: boolean,
  tenant: string,
  made: (text: string) => NewKey | null,
): Promise<Added> {
  if (!write) {
    const found = await readTenants(config);
    const newKey = made('text' in found ? found.text : '');
    if (newKey === null) return { ok: false, reason: NO_ID_LEFT };
    // At the end of a file that has `tenants:` already, the printed lines would be a second one.
    const isThere = 'text' in found && found.text !== '';
    const hint = isThere ? `# ${found.file}: put the last line below "keys:" of ${tenant}, or let --write do it\n` : '';
    return { ok: true, newKey, file: null, hint };
  }
  let newKey: NewKey | null = null;
  const written = await editTenants(config, (text): Edited => {
    newKey = made(text);
    return newKey === null ? { ok: false, reason: NO_ID_LEFT } : addKey(text, tenant, newKey);
  });
  if (!written.ok || newKey === null) return { ok: false, reason: written.ok ? NO_ID_LEFT : written.reason };
  return { ok: true, newKey, file: written.file, hint: '' };
}

/** The month itself, then `-b` to `-z`; null if all are in use. */
function unusedId(month: string, used: readonly string[]): string | null {
  const letters = [...'bcdefghijklmnopqrstuvwxyz'];
  return [month, ...letters.map((letter) => `${month}-${letter}`)].find((id) => !used.includes(id)) ?? null;
}

function wrongArgument(tenant: string, { expires, id }: Values): string | null {
  if (!ID.test(tenant)) return `a tenant name must have ${ID_RULE}`;
  if (id !== undefined && !ID.test(id)) return `--id must have ${ID_RULE}`;
  if (expires !== undefined && !((parseDuration(expires) ?? 0) > 0)) {
    return '--expires must be a duration such as 24h or 180d';
  }
  return null;
}

async function revoke(tenant: string, id: string, { config: path, write }: Values, io: Io): Promise<number> {
  const config = { path: path ?? DEFAULT_CONFIG, env: io.env };
  if (write) {
    const written: Written = await editTenants(config, (text) => removeKey(text, tenant, id));
    if (!written.ok) return failed(io, 'key', written.reason);
    say(
      io.stdout,
      `${written.file}: key ${id} of ${tenant} removed; running gateways reject it once they have reloaded`,
    );
    return 0;
  }
  const found = await readTenants(config);
  if ('reason' in found) return failed(io, 'key', found.reason);
  const edited = removeKey(found.text, tenant, id);
  if (!edited.ok) return failed(io, 'key', `${found.file}: ${edited.reason}`);
  io.stdout.write(tenantSnippet(edited.text, tenant));
  return 0;
}

async function hash(io: Io): Promise<number> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of io.stdin) {
    chunks.push(Buffer.from(chunk));
    bytes += chunk.length;
    if (bytes > MAX_INPUT_BYTES) return failed(io, 'key', 'the input is too long for a key', 2);
  }
  const given = Buffer.concat(chunks).toString('utf8').trim();
  if (given === '' || /\s/.test(given)) {
    return failed(io, 'key', 'give one key on standard input, such as: patchgate key hash < key.txt', 2);
  }
  say(io.stdout, sha256(given));
  return 0;
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? 'failed';
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
