import { constants } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo, Server as NetServer, Socket } from 'node:net';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import { reject } from '../context.ts';
import type { Secret } from '../secret.ts';
import { renderRawProblem } from './problem-response.ts';

interface PortTls {
  /** PEM: the port's own certificate, then its intermediates. */
  readonly cert: string;
  readonly key: Secret;
  readonly clientAuth: 'none' | 'optional' | 'required';
  readonly clientCa: string | null;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
}

export interface ListenerTls {
  /** Null: plain HTTP. */
  readonly tls: PortTls | null;
  readonly handshakeTimeoutMs: number;
  readonly onHandshake: OnHandshake;
}

export interface Listener {
  readonly server: Server;
  readonly handshakes: Handshakes | null;
  /** New connections are shown this certificate; open ones go on. Does nothing on a port that speaks plain HTTP. */
  renew(tls: PortTls | null): void;
  /** Ends all connections, also those in their handshake. */
  destroyConnections(): void;
}

/** For TLS 1.2 only suites with forward secrecy and AEAD (RFC 9325 section 4.2). All suites of TLS 1.3 have both. */
const CIPHERS = [
  ...['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'],
  ...['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'],
  ...['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
  ...['ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305'],
].join(':');

/**
 * OpenSSL sends tickets in TLS 1.3 whatever the options are, and Node cannot set their number. With the shortest lifetime that
 * OpenSSL accepts, a client drops them instead of offering them in vain (RFC 8446 section 4.6.1).
 */
const TICKET_SECONDS = 1;
/** Time for a rejected caller to read the reason. */
const LINGER_MS = 1_000;

/** The server of one port, with or without TLS, not listening yet. */
export function createListener(
  options: ServerOptions,
  { tls, handshakeTimeoutMs, onHandshake }: ListenerTls,
): Listener {
  if (tls === null) {
    const server = createServer(options);
    return { server, handshakes: null, renew: () => {}, destroyConnections: () => server.closeAllConnections() };
  }
  const server: TlsServer = createTlsServer({
    ...options,
    ...contextOf(tls),
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: handshakeTimeoutMs,
    requestCert: tls.clientAuth !== 'none',
    // Handshakes rejects callers. Node would reset their connections, without an alert or a reason.
    rejectUnauthorized: false,
  });
  const handshakes = new Handshakes(server, tls.clientAuth, onHandshake);
  return {
    server,
    handshakes,
    renew: (next) => {
      if (next !== null) server.setSecureContext(contextOf(next));
    },
    destroyConnections() {
      server.closeAllConnections();
      for (const socket of handshakes.pending()) socket.destroy();
    },
  };
}

function contextOf({ cert, key, clientAuth, clientCa, minVersion }: PortTls): SecureContextOptions {
  return {
    ...{ cert, key: key.reveal(), minVersion, ciphers: CIPHERS },
    ...(clientAuth !== 'none' && clientCa !== null && { ca: clientCa }),
    // No session is resumed: every connection gets the current certificate and verifies that of its caller, and no ticket key exists
    // that could decrypt recorded traffic.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
    sessionTimeout: TICKET_SECONDS,
  };
}

type HandshakeOutcome =
  | 'ok'
  /** As `ok`, and the caller has shown a valid certificate. */
  | 'certified'
  /** The caller does not speak TLS; plain HTTP, as a rule. */
  | 'plain'
  | 'timeout'
  /** No version in common. */
  | 'version'
  /** No cipher in common. */
  | 'cipher'
  /** The caller speaks only HTTP/2. */
  | 'protocol'
  | 'certificate_missing'
  /** Signed by no trusted authority, or expired. */
  | 'certificate_rejected'
  /** The caller does not trust the certificate of the port. */
  | 'distrusted'
  | 'client_closed'
  | 'other';

const FAILURES: Readonly<Record<string, HandshakeOutcome>> = {
  ERR_SSL_HTTP_REQUEST: 'plain',
  ERR_SSL_HTTPS_PROXY_REQUEST: 'plain',
  ERR_SSL_WRONG_VERSION_NUMBER: 'plain',
  ERR_TLS_HANDSHAKE_TIMEOUT: 'timeout',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'version',
  ERR_SSL_NO_SHARED_CIPHER: 'cipher',
  ERR_SSL_NO_APPLICATION_PROTOCOL: 'protocol',
  ECONNRESET: 'client_closed',
};
/** Alerts of a caller about the port's certificate (RFC 8446 section 6.2). */
const DISTRUST = /^ERR_SSL_\w*ALERT_(?:UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_\w+)$/;

type OnHandshake = (outcome: HandshakeOutcome, caller: { address: string; code: string | null }) => void;

/** The connections of a TLS port whose handshake is not complete. Node emits another socket for a connection when it is. */
export class Handshakes {
  /** By remote address and port, which is all that the two sockets of a connection have in common. */
  readonly #pending = new Map<string, Socket>();
  readonly #clientAuth: PortTls['clientAuth'];
  readonly #onHandshake: OnHandshake;

  constructor(server: Server, clientAuth: PortTls['clientAuth'], onHandshake: OnHandshake) {
    this.#clientAuth = clientAuth;
    this.#onHandshake = onHandshake;
    server.on('connection', (socket: Socket) => {
      const name = nameOf(socket);
      this.#pending.set(name, socket);
      socket.once('close', () => {
        if (this.#pending.get(name) === socket) this.#pending.delete(name);
      });
    });
    // Node's own listener would read requests from a rejected socket.
    const listeners = server.listeners('secureConnection');
    server.removeAllListeners('secureConnection');
    server.on('secureConnection', (socket: TLSSocket) => {
      if (this.#succeeded(socket)) for (const listener of listeners) listener.call(server, socket);
    });
    // Node's own would close a failed one without a response.
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

  /** False: the caller is rejected, and the connection is still pending until it has ended. */
  #succeeded(socket: TLSSocket): boolean {
    const certified = socket.getPeerX509Certificate() !== undefined;
    const missing = !certified && this.#clientAuth === 'required';
    const accepted = !missing && (!certified || socket.authorized);
    if (accepted) {
      this.#pending.delete(nameOf(socket));
      this.#report(certified ? 'certified' : 'ok', socket, null);
      return true;
    }
    this.#report(missing ? 'certificate_missing' : 'certificate_rejected', socket, null);
    rejectCertificate(socket, missing ? CERTIFICATE_MISSING : CERTIFICATE_REJECTED);
    return false;
  }

  #failed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    const code = error.code ?? '';
    const outcome = FAILURES[code] ?? (DISTRUST.test(code) ? 'distrusted' : 'other');
    this.#report(outcome, socket, code);
    const raw = this.#pending.get(nameOf(socket));
    // The caller spoke HTTP, so it gets a response in HTTP; the next line ends the connection.
    if (outcome === 'plain' && raw !== undefined && raw.writable) raw.write(SPEAK_TLS);
    socket.destroy();
  }

  #report(outcome: HandshakeOutcome, socket: TLSSocket, code: string | null): void {
    this.#onHandshake(outcome, { address: socket.remoteAddress ?? '', code });
  }
}

/**
 * Responds in HTTP, reading nothing but the end, and closes with an alert (close_notify). Node has no interface for other alerts.
 */
function rejectCertificate(socket: TLSSocket, reason: Buffer): void {
  socket.on('error', () => {});
  const timer = setTimeout(() => socket.destroy(), LINGER_MS).unref();
  socket.once('close', () => clearTimeout(timer));
  // OpenSSL is still inside the handshake here, and would send no alert.
  setImmediate(() => socket.end(reason));
  // Unread bytes would reset the connection.
  socket.resume();
}

const badRequest = (detail: string): Buffer => renderRawProblem(reject('bad_request', { detail }));
const SPEAK_TLS = badRequest('This port speaks TLS: begin the URL with https://. What was sent was not read.');
const CERTIFICATE_MISSING = badRequest('This port requires a client certificate, and the connection has none.');
const CERTIFICATE_REJECTED = badRequest(
  'The client certificate is expired, or no authority that this port trusts has signed it.',
);

function nameOf({ remoteAddress, remotePort, localAddress }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress}`;
}

/** `reason` is a part of a sentence for the operator. */
type ListenResult =
  | { readonly ok: true; readonly address: AddressInfo }
  | { readonly ok: false; readonly reason: string };

/** Binds a server. `what` names the port in the reason of a failure. */
export async function listen(
  server: NetServer,
  { host, port }: { readonly host: string; readonly port: number },
  what: string,
): Promise<ListenResult> {
  try {
    server.listen(port, host);
    await once(server, 'listening');
    return { ok: true, address: server.address() as AddressInfo };
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    return {
      ok: false,
      reason: `the ${what} port ${host}:${port} ${LISTEN_FAULTS[code] ?? `cannot be used (${code})`}`,
    };
  }
}

/** Stops accepting connections; resolves when the last one is gone. */
export async function closeServer(server: NetServer): Promise<void> {
  if (server.listening) await new Promise((resolve) => server.close(resolve));
}

const LISTEN_FAULTS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use by another process',
  EACCES: 'may not be used by this user',
  EADDRNOTAVAIL: 'is no address of this machine',
  ENOTFOUND: 'is no address of this machine',
};
