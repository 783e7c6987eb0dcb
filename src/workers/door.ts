import { createServer, type Socket } from 'node:net';
import { closeServer, type Listening, listen } from '../edge/ports.ts';

/** The traffic port, as the primary has it: accepts, reads nothing, and passes on. */
export interface Door {
  listen(where: { readonly host: string; readonly port: number }): Promise<Listening>;
  /** Accepts whoever has come by now, and nobody after that. */
  shut(): Promise<void>;
  close(): void;
}

/** Turns of the event loop in which the kernel may still hand over who had come: one connection a turn at least. */
const MOST_LAST_TURNS = 500;
/** The first may be what is left of a turn that has asked the kernel already. */
const QUIET_TURNS = 2;

export function createDoor(accept: (socket: Socket) => void): Door {
  let accepted = 0;
  const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
    accepted += 1;
    accept(socket);
  });
  const close = (): void => {
    // Its end is not waited for: it would come with that of the last connection in any worker.
    void closeServer(server);
  };
  return {
    listen: (where) => listen(server, where, 'traffic'),
    async shut() {
      for (let turn = 0, quiet = 0; quiet < QUIET_TURNS && turn < MOST_LAST_TURNS; turn++) {
        const before = accepted;
        await new Promise((resolve) => setImmediate(resolve));
        quiet = accepted > before ? 0 : quiet + 1;
      }
      close();
    },
    close,
  };
}
