import type { AddressInfo, Server } from 'node:net';

export type Listening =
  | { readonly ok: true; readonly address: AddressInfo }
  | { readonly ok: false; readonly reason: string };

/** Binds a server; a port that can not be had is an outcome, in words for whoever started the process. */
export function listen(
  server: Server,
  where: { readonly host: string; readonly port: number },
  what: string,
): Promise<Listening> {
  return new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      resolve({ ok: false, reason: `the ${what} port ${where.host}:${where.port} ${reasonOf(error)}` });
    });
    server.listen(where.port, where.host, () => {
      resolve({ ok: true, address: server.address() as AddressInfo });
    });
  });
}

/** Stops accepting; resolves when the last connection is gone. */
export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    if (!server.listening) {
      resolve();
      return;
    }
    server.close(() => resolve());
  });
}

function reasonOf(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return 'is taken by another process';
    case 'EACCES':
      return 'may not be used by this user';
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return 'is no address of this machine';
    default:
      return `can not be used (${error.code ?? 'unknown error'})`;
  }
}
