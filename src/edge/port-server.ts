import { constants } from 'node:crypto';
import { createServer, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import type { Secret } from '../secret.ts';
import { Handshakes, type OnHandshake } from './handshakes.ts';

/** What a port shows, and what it asks of callers. */
export interface PortTls {
  /** PEM: the port's own, then those that vouch for it. */
  readonly cert: string;
  readonly key: Secret;
  readonly clientAuth: 'none' | 'optional' | 'required';
  /** PEM. */
  readonly clientCa: string | null;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
}

export interface EdgeTls {
  /** Null: plain HTTP. */
  readonly tls: PortTls | null;
  readonly handshakeTimeoutMs: number;
  readonly onHandshake: OnHandshake;
}

export interface PortServer {
  readonly server: Server;
  /** Null on a port that speaks plain HTTP. */
  readonly handshakes: Handshakes | null;
  /** From now on new connections are shown this; those that are open go on. Does nothing on a port that speaks plain HTTP. */
  renew(tls: PortTls | null): void;
  /** Ends all connections, those in their handshake too. */
  destroyConnections(): void;
}

/** For TLS 1.2: forward secrecy and AEAD alone, RFC 9325 section 4.2. All suites of TLS 1.3 are like that. */
const CIPHERS = [
  ...['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'],
  ...['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'],
  ...['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
  ...['ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305'],
].join(':');

/** A server for one port, not listening yet; over TLS or not, it is the same to whatever answers its requests. */
export function createPortServer(options: ServerOptions, { tls, ...edge }: EdgeTls): PortServer {
  if (tls === null) {
    const server = createServer(options);
    return { server, handshakes: null, renew: () => {}, destroyConnections: () => server.closeAllConnections() };
  }
  const server: TlsServer = createTlsServer({
    ...options,
    ...contextOf(tls),
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: edge.handshakeTimeoutMs,
    requestCert: tls.clientAuth !== 'none',
    // Where they are optional, a bad one is refused in Handshakes: Node would refuse those who have none as well.
    rejectUnauthorized: tls.clientAuth === 'required',
  });
  const handshakes = new Handshakes(server, edge.onHandshake);
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
    // No session is taken up again: each connection is shown the certificate of the day and has its own looked at, and no key of
    // tickets is there that would open what was recorded.
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  };
}
