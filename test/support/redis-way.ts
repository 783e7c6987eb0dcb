import { connect, createServer, type Socket } from 'node:net';

/** A way to a Redis server that can put in bytes of its own, and lose what is sent. */
export interface RedisWay {
  readonly port: number;
  /** Connections made so far, and those of them that are open. */
  made(): number;
  open(): number;
  /** To every open connection, as if the server had sent them. */
  inject(bytes: string): void;
  /** From now on nothing passes on the connections that are open, and none of them is closed; new ones work. */
  lose(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function wayTo(server: number): Promise<RedisWay> {
  const living = new Map<Socket, { readonly far: Socket; lost: boolean }>();
  let made = 0;
  const listener = createServer((caller) => {
    made += 1;
    const far = connect(server, '127.0.0.1');
    const state = { far, lost: false };
    living.set(caller, state);
    caller.on('data', (bytes) => void (state.lost || far.write(bytes)));
    far.on('data', (bytes) => void (state.lost || caller.write(bytes)));
    for (const [one, other] of [
      [caller, far],
      [far, caller],
    ] as const) {
      one.on('error', () => {});
      one.on('close', () => {
        living.delete(caller);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as { port: number };
  return {
    port,
    made: () => made,
    open: () => living.size,
    inject: (bytes) => {
      for (const caller of living.keys()) caller.write(bytes);
    },
    lose: () => {
      for (const state of living.values()) state.lost = true;
    },
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        for (const caller of living.keys()) caller.destroy();
        listener.close(() => resolve());
      }),
  };
}
