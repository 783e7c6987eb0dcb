import { createServer, type Socket } from 'node:net';
import { basename } from 'node:path';
import { connect } from 'node:tls';
import { authority } from './certificate-authority.ts';
import { TLS } from './tls-gateway.ts';

/** Lets a test whose client knows no TLS call a gateway that does: what comes in plain goes on in TLS. */
export interface TlsTunnel {
  /** For `listen.traffic.tls`. */
  readonly tls: object;
  /** What `tls` names; undefined for other files. */
  file(path: string): string | undefined;
  /** URL of a port that leads to this one. */
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
