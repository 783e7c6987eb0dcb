import { createHash, randomBytes } from 'node:crypto';
import { ID, ID_RULE, parseDuration } from '../config/option-types.ts';
import { type Io, readOptions, say } from './command-line.ts';

const HELP = `usage: patchgate key create TENANT [--expires 180d]
       patchgate key hash

create   prints a new key once, and the YAML that adds it to a tenant
hash     reads a key from standard input and prints its SHA-256

  --expires DURATION   the gateway rejects the key after this time, such as 180d (default: never)
`;

/** A key of 32 random bytes cannot be guessed. */
const KEY_BYTES = 32;
/** Scanners for leaked secrets can search for it. */
const KEY_PREFIX = 'pgk';
const MAX_INPUT_BYTES = 64 * 1024;

/** `patchgate key`. */
export async function key(args: string[], io: Io): Promise<number> {
  const options = readOptions('key', args, { expires: { type: 'string' } }, HELP, io, true);
  if (!options.ok) return options.code;
  const [action, tenant, ...more] = options.positionals;
  if (action === 'create' && tenant !== undefined && more.length === 0)
    return create(tenant, options.values.expires, io);
  if (action === 'hash' && tenant === undefined) return hash(io);
  io.stderr.write(HELP);
  return 2;
}

function create(tenant: string, expires: string | undefined, io: Io): number {
  if (!ID.test(tenant)) {
    say(io.stderr, `patchgate key: a tenant name must have ${ID_RULE}`);
    return 2;
  }
  const lifeMs = expires === undefined ? null : parseDuration(expires);
  if (expires !== undefined && (lifeMs === null || lifeMs <= 0)) {
    say(io.stderr, 'patchgate key: --expires must be a duration such as 24h or 180d');
    return 2;
  }
  const now = new Date();
  const made = `${KEY_PREFIX}_${tenant}_${randomBytes(KEY_BYTES).toString('base64url')}`;
  const end =
    lifeMs === null ? '' : `, expires: ${new Date(now.getTime() + lifeMs).toISOString().replace(/\.\d+Z$/, 'Z')}`;
  say(io.stdout, `key of ${tenant}, shown only once: ${made}`);
  say(io.stdout, '');
  say(io.stdout, 'tenants:');
  say(io.stdout, `  ${tenant}:`);
  say(io.stdout, '    keys:');
  say(io.stdout, `      - { id: ${now.toISOString().slice(0, 7)}, sha256: ${sha256(made)}${end} }`);
  return 0;
}

async function hash(io: Io): Promise<number> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of io.stdin) {
    chunks.push(Buffer.from(chunk));
    bytes += chunk.length;
    if (bytes > MAX_INPUT_BYTES) {
      say(io.stderr, 'patchgate key: the input is too long for a key');
      return 2;
    }
  }
  const given = Buffer.concat(chunks).toString('utf8').trim();
  if (given === '' || /\s/.test(given)) {
    say(io.stderr, 'patchgate key: give one key on standard input, such as: patchgate key hash < key.txt');
    return 2;
  }
  say(io.stdout, sha256(given));
  return 0;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
