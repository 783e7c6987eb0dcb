import { createServer, type Socket } from 'node:net';
import { basename } from 'node:path';
import { connect } from 'node:tls';
import { authority } from './certificate-authority.ts';
import { TLS } from './tls-gateway.ts';

/** Connects a plain HTTP client of a test to a TLS port of the gateway. */
export interface TlsTunnel {
  /** For `listen.traffic.tls`. */
  readonly tls: object;
  /** The content of a file that `tls` names; undefined for other files. */
  file(path: string): string | undefined;
  /** Starts the tunnel to a port, and returns its URL. */
  open(port: number): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function tlsTunnel(): Promise<TlsTunnel> {
  const ca = await authority();
  const { cert, key } = await ca.issue('gate', { days: 100 });
  const files: Record<string, string> = { [TLS.certFile]: cert, [TLS.keyFile]: key };
  const sockets = new Set<Socket>();
  let to = 0;
  const server = createServer((caller) => {
    const gate = connect({ host: '127.0.0.1', port: to, ca: ca.cert });
    for (const [socket, other] of [
      [caller, gate],
      [gate, caller],
    ] as const) {
      sockets.add(socket);
      socket
        .on('error', () => {})
        .once('close', () => {
          sockets.delete(socket);
          other.destroy();
        });
      socket.pipe(other);
    }
  });
  return {
    tls: TLS,
    file: (path) => files[basename(path)],
    async open(port) {
      to = port;
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
      await ca[Symbol.asyncDispose]();
    },
  };
}
