// TLS in front of the simulator, with certificates that can be changed while it serves.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import { withTools } from '../../scripts/tools.mjs';
import { scratch } from './rig.mjs';

/** `expired`: since yesterday. `other`: it is another host's. @typedef {'good' | 'expired' | 'other'} Certificate */

const folder = join(scratch, 'tls');
/** @type {Record<Certificate, { days: number, name: string }>} */
const KINDS = {
  good: { days: 2, name: 'IP:127.0.0.1' },
  expired: { days: -1, name: 'IP:127.0.0.1' },
  other: { days: 2, name: 'DNS:other.upstream.test' },
};
const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Where the certificate of the authority is, once {@link issue} has made it: for NODE_EXTRA_CA_CERTS. */
export const AUTHORITY = join(folder, 'authority.pem');

let issued = false;

/**
 * An authority for this process alone, and a certificate of each kind that it vouches for. Once for all: rows run side by side, and one
 * that starts later must not replace the certificates that the gateways of another trust.
 */
function issue() {
  if (issued) return;
  issued = true;
  const env = withTools(['openssl']);
  mkdirSync(folder, { recursive: true });
  const openssl = (/** @type {string[]} */ args) => execFileSync('openssl', args, { cwd: folder, env, stdio: 'pipe' });
  const authority = ['-CA', AUTHORITY, '-CAkey', 'authority.key', '-CAcreateserial'];
  openssl([
    'req',
    '-x509',
    ...EC,
    '-days',
    '2',
    '-subj',
    '/CN=authority',
    '-keyout',
    'authority.key',
    '-out',
    AUTHORITY,
  ]);
  for (const [kind, { days, name }] of Object.entries(KINDS)) {
    openssl(['req', ...EC, '-subj', `/CN=${kind}`, '-keyout', `${kind}.key`, '-out', `${kind}.csr`]);
    writeFileSync(join(folder, `${kind}.ext`), `subjectAltName=${name}\n`);
    const signed = ['-days', String(days), '-extfile', `${kind}.ext`, '-out', `${kind}.pem`];
    openssl(['x509', '-req', '-in', `${kind}.csr`, ...authority, ...signed]);
  }
}

/** @param {Certificate} kind */
const pair = (kind) => ({
  key: readFileSync(join(folder, `${kind}.key`)),
  cert: readFileSync(join(folder, `${kind}.pem`)),
});

/** @param {number} to */
export async function tlsFront(to) {
  issue();
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set();
  const server = createServer({ ...pair('good'), allowHalfOpen: true }, (caller) => {
    const far = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    for (const [socket, other] of /** @type {const} */ ([
      [caller, far],
      [far, caller],
    ])) {
      sockets.add(socket);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroySoon();
      });
    }
    caller.pipe(far).pipe(caller);
  });
  // Below TLS: also those that never finish their handshake must end with this.
  server.on('connection', (/** @type {import('node:net').Socket} */ socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  // A client that does not trust the certificate aborts the handshake.
  server.on('tlsClientError', (_error, socket) => void socket.destroy());
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(null)));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    /** For connections to come. @param {Certificate} kind */
    use: (kind) => server.setSecureContext(pair(kind)),
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
