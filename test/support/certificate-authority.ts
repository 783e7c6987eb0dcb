import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Folder, folder } from './process.ts';

const run = promisify(execFile);

export interface Pair {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export interface IssueOptions {
  /** From now; may lie in the past. */
  readonly days?: number;
  /** `subjectAltName`; '' for none. */
  readonly names?: string;
  readonly usage?: 'serverAuth' | 'clientAuth';
  /** May vouch for others itself. */
  readonly authority?: boolean;
  readonly newKey?: readonly string[];
}

export interface Issuer extends Pair {
  /** Issues a certificate. Default: for 127.0.0.1 and localhost. */
  issue(name: string, options?: IssueOptions): Promise<Pair>;
  /** Creates an intermediate authority. */
  intermediate(name: string): Promise<Issuer>;
}

export interface Authority extends Issuer {
  [Symbol.asyncDispose](): Promise<void>;
}

const P256 = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
const DAY_MS = 86_400_000;

/** An authority made by openssl for one test, gone with it. */
export async function authority(name = 'Fake authority'): Promise<Authority> {
  const home = await folder({});
  const at = (file: string) => join(home.path, file);
  let made = 0;
  const pairAt = async (id: string): Promise<Pair> => ({
    cert: await readFile(at(`${id}.crt`), 'utf8'),
    key: await readFile(at(`${id}.key`), 'utf8'),
  });
  const request = (id: string, subject: string, newKey: readonly string[]) =>
    run('openssl', [
      ...['req', '-new', '-newkey', ...newKey, '-nodes', '-subj', `/CN=${subject}`],
      ...['-keyout', at(`${id}.key`), '-out', at(`${id}.csr`)],
    ]);
  const sign = async (id: string, by: string | null, extensions: readonly string[], days: number): Promise<void> => {
    await writeFile(at(`${id}.cnf`), `[v3]\n${extensions.join('\n')}\n`);
    // `ca` and no other command of openssl 3.0 takes both dates, so that one may have expired.
    await writeFile(at('index.txt'), '');
    await writeFile(
      at('ca.cnf'),
      [
        `[ca]\ndefault_ca = own\n[own]\nnew_certs_dir = ${home.path}\ndatabase = ${at('index.txt')}`,
        'default_md = sha256\nrand_serial = yes\nunique_subject = no\npolicy = any\n[any]\ncommonName = supplied',
      ].join('\n'),
    );
    const from = new Date(Date.now() + Math.min(days, 0) * DAY_MS - DAY_MS);
    const stamp = (date: Date) => date.toISOString().replace(/[-:T]|\.\d+/g, '');
    await run('openssl', [
      ...['ca', '-batch', '-notext', '-config', at('ca.cnf'), '-in', at(`${id}.csr`), '-out', at(`${id}.crt`)],
      ...(by === null
        ? ['-selfsign', '-keyfile', at(`${id}.key`)]
        : ['-cert', at(`${by}.crt`), '-keyfile', at(`${by}.key`)]),
      ...['-extfile', at(`${id}.cnf`), '-extensions', 'v3'],
      ...['-startdate', stamp(from), '-enddate', stamp(new Date(Date.now() + days * DAY_MS))],
    ]);
  };
  const OF_AUTHORITY = ['basicConstraints = critical,CA:TRUE', 'keyUsage = keyCertSign,cRLSign'];
  const issuerAt = async (own: string): Promise<Issuer> => ({
    ...(await pairAt(own)),
    async issue(subject, options = {}) {
      const { days = 2, names = 'IP:127.0.0.1,DNS:localhost', usage, newKey = P256 } = options;
      const id = `issued-${made++}`;
      await request(id, subject, newKey);
      const extensions = [
        'basicConstraints = CA:FALSE',
        ...(names === '' ? [] : [`subjectAltName = ${names}`]),
        ...(usage === undefined ? [] : [`extendedKeyUsage = ${usage}`]),
      ];
      await sign(id, own, options.authority ? OF_AUTHORITY : extensions, days);
      return pairAt(id);
    },
    async intermediate(subject) {
      const id = `authority-${made++}`;
      await request(id, subject, P256);
      await sign(id, own, OF_AUTHORITY, 2);
      return issuerAt(id);
    },
  });
  await request('root', name, P256);
  await sign('root', null, OF_AUTHORITY, 3);
  return { ...(await issuerAt('root')), [Symbol.asyncDispose]: () => home[Symbol.asyncDispose]() };
}

export interface RedisCertificate {
  readonly files: Folder;
  readonly ca: string;
  /** Arguments of redis-server. */
  readonly args: readonly string[];
}

/** A certificate for 127.0.0.1 that vouches for itself, made by openssl for this test alone. */
export async function redisCertificate(): Promise<RedisCertificate> {
  const files = await folder({});
  const key = join(files.path, 'key.pem');
  const cert = join(files.path, 'cert.pem');
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  await run('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
    ...subject,
    '-keyout',
    key,
    '-out',
    cert,
  ]);
  const args = ['--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', cert, '--tls-auth-clients', 'no'];
  return { files, ca: await readFile(cert, 'utf8'), args };
}
