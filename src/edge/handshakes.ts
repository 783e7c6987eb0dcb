import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { reject } from '../context.ts';
import { renderMalformed } from './malformed.ts';

/** How a handshake ended. */
export type HandshakeOutcome =
  | 'ok'
  /** As ok, and the caller has shown a certificate. */
  | 'certified'
  /** What came was no TLS: plain HTTP, as a rule. */
  | 'plain'
  | 'timeout'
  /** No version, no cipher in common; or the caller speaks HTTP/2 alone. */
  | 'version'
  | 'cipher'
  | 'protocol'
  /** One is required. */
  | 'certificate_missing'
  /** Not by an authority of ours, or it has expired. */
  | 'certificate_rejected'
  /** The caller does not trust ours. */
  | 'distrusted'
  | 'client_closed'
  | 'other';

/** By code of Node and OpenSSL. */
const FAILURES: Readonly<Record<string, HandshakeOutcome>> = {
  ERR_SSL_HTTP_REQUEST: 'plain',
  ERR_SSL_HTTPS_PROXY_REQUEST: 'plain',
  ERR_SSL_WRONG_VERSION_NUMBER: 'plain',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'timeout',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'version',
  ERR_SSL_NO_SHARED_CIPHER: 'cipher',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'protocol',
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: 'certificate_missing',
};
/** Alerts of a caller about our certificate: RFC 8446 section 6.2. */
const DISTRUST = /^ERR_SSL_\w*ALERT_(?:UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_\w+)$/;

export type OnHandshake = (outcome: HandshakeOutcome, caller: { address: string; code: string | null }) => void;

/**
 * The connections of a TLS port that are not encrypted yet. Node hands out a second socket when they are, and speaks of no
 * connection before.
 */
export class Handshakes {
  /** By the address they come from, which is all that the two sockets of a connection have in common. */
  readonly #pending = new Map<string, Socket>();
  readonly #onHandshake: OnHandshake;

  /** @param server one that speaks TLS */
  constructor(server: Server, onHandshake: OnHandshake) {
    this.#onHandshake = onHandshake;
    server.on('connection', (socket: Socket) => {
      const name = nameOf(socket);
      this.#pending.set(name, socket);
      socket.once('close', () => {
        if (this.#pending.get(name) === socket) this.#pending.delete(name);
      });
    });
    // Before Node's own listeners: those would read requests from the one, and close the other unanswered.
    server.prependListener('secureConnection', (socket: TLSSocket) => this.#succeeded(socket));
    server.prependListener('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) =>
      this.#failed(error, socket),
    );
  }

  pending(): Socket[] {
    return [...this.#pending.values()];
  }

  isPending(socket: Socket): boolean {
    return this.#pending.get(nameOf(socket)) === socket;
  }

  #succeeded(socket: TLSSocket): void {
    this.#pending.delete(nameOf(socket));
    const certified = socket.getPeerX509Certificate() !== undefined;
    // Where certificates are optional, Node leaves it to us to refuse one that is not valid.
    const rejected = certified && !socket.authorized;
    this.#tell(rejected ? 'certificate_rejected' : certified ? 'certified' : 'ok', socket, null);
    if (rejected) socket.destroy();
  }

  #failed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    const code = error.code ?? '';
    const outcome = failureOf(code, socket);
    this.#tell(outcome, socket, code);
    const raw = this.#pending.get(nameOf(socket));
    // In the words that whoever sent it understands; the connection is ended by Node, or right below.
    if (outcome === 'plain' && raw !== undefined && raw.writable) raw.write(SPEAK_TLS);
    socket.destroy();
  }

  #tell(outcome: HandshakeOutcome, socket: TLSSocket, code: string | null): void {
    this.#onHandshake(outcome, { address: socket.remoteAddress ?? '', code });
  }
}

const SPEAK_TLS = renderMalformed(
  reject('bad_request', { detail: 'This port speaks TLS: begin the URL with https://. What was sent was not read.' }),
);

function failureOf(code: string, socket: TLSSocket): HandshakeOutcome {
  const known = FAILURES[code];
  if (known !== undefined) return known;
  if (DISTRUST.test(code)) return 'distrusted';
  if (code !== 'ECONNRESET') return 'other';
  // Node tells of a certificate that it has not taken like of a caller that has left.
  return socket.authorizationError ? 'certificate_rejected' : 'client_closed';
}

function nameOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}
