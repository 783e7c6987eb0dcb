import { connect, createServer, type Socket } from 'node:net';
import { freePort } from './redis.ts';

export interface RedisProxy {
  readonly url: string;
  /** From now on each reply passes through it; null: replies pass unchanged. */
  alter(change: ((reply: string) => string) | null): void;
  /** Connections that are open. */
  open(): number;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Stands between a gateway and its Redis. */
export async function redisProxy(toPort: number): Promise<RedisProxy> {
  const port = await freePort();
  const sockets = new Set<Socket>();
  let alter: ((reply: string) => string) | null = null;
  const server = createServer((near) => {
    const far = connect(toPort, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    near.pipe(far);
    far.on('data', (reply) => {
      near.write(alter === null ? reply : Buffer.from(alter(reply.toString('latin1')), 'latin1'));
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `redis://127.0.0.1:${port}`,
    alter: (change) => {
      alter = change;
    },
    open: () => sockets.size / 2,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
