import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Folder, folder } from './process.ts';

const run = promisify(execFile);

export interface Certificates {
  readonly files: Folder;
  readonly ca: string;
  /** Arguments of redis-server. */
  readonly args: readonly string[];
}

/** A certificate for 127.0.0.1 that vouches for itself, made by openssl for this test alone. */
export async function certificates(): Promise<Certificates> {
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
