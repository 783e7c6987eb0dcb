import { once } from 'node:events';
import { connect, Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { AbstractConnector, type StandaloneConnectionOptions } from 'ioredis';
import type { Clock } from '../../../clock.ts';
import { GuardedStream } from './guarded-stream.ts';

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

/** The options of a client that its connector needs. */
type ClientOptions = StandaloneConnectionOptions & { readonly connectTimeout?: number };
type Stream = Awaited<ReturnType<AbstractConnector['connect']>>;

const KEEP_ALIVE_MS = 5_000;

export interface Route {
  /** Where the server is now. Left out: at the host and port of the client's options. */
  readonly find?: () => Promise<HostAndPort>;
  /** The server has this role by its INFO, where it tells one; otherwise the connection is given up. */
  readonly role?: 'master';
}

/**
 * The way in which a client of ioredis connects (its option `Connector`), through a {@link GuardedStream}. A connection that cannot be
 * made is a stream that has closed already: ioredis tries again after it, but gives up a client whose connector throws.
 */
export function connectorBy({ find, role }: Route = {}): new (options: unknown) => AbstractConnector {
  return class GuardedConnector extends AbstractConnector {
    readonly #options: ClientOptions;
    #attempt = new AbortController();

    constructor(options: unknown) {
      super(0);
      this.#options = options as ClientOptions;
    }

    override check(info: { readonly role?: unknown } | null | undefined): boolean {
      return role === undefined || typeof info?.role !== 'string' || info.role === role;
    }

    override async connect(): Promise<Stream> {
      const attempt = new AbortController();
      this.#attempt = attempt;
      const { host = 'localhost', port = 6379, tls, connectTimeout = 10_000 } = this.#options;
      let stream: GuardedStream;
      try {
        const address = (await find?.()) ?? { host, port };
        stream = new GuardedStream(await open(address, tls, connectTimeout, attempt.signal));
      } catch (error) {
        this.firstError = error as Error;
        stream = new GuardedStream(new Socket());
        stream.destroy();
      }
      // ioredis uses what a Duplex has, and these two methods of a Socket.
      this.stream = stream as unknown as Stream;
      return this.stream;
    }

    /** At once: what a server that is silent still has to say is not waited for. */
    override disconnect(): void {
      this.#attempt.abort(new Error('the connection was given up'));
      this.stream?.destroy();
    }
  };
}

async function open(
  address: HostAndPort,
  tls: ConnectionOptions | undefined,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  signal.throwIfAborted();
  const timeout = AbortSignal.timeout(timeoutMs);
  const socket = tls === undefined ? connect(address) : connectTls({ ...tls, ...address });
  // An error without a listener would end the process.
  socket.on('error', () => {});
  try {
    const connected = tls === undefined ? 'connect' : 'secureConnect';
    await once(socket, connected, { signal: AbortSignal.any([signal, timeout]) });
  } catch (error) {
    socket.destroy();
    throw timeout.aborted ? new Error('connect ETIMEDOUT') : error;
  }
  return socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
}

/** As often as a replica sends heartbeats: a server that has lost its memory waits for replicas that come back within two seconds. */
export const LONGEST_PAUSE_MS = 500;
/** A shorter connection was of no use: a server that accepts it and refuses every command is not tried more often. */
const USEFUL_MS = 5_000;

export type Backoff = ReturnType<typeof createBackoff>;

/** Pauses before a connection is opened again. */
export function createBackoff(clock: Clock) {
  let attempts = 0;
  let connectedAt: number = Number.POSITIVE_INFINITY;
  return {
    /** The connection can be used. */
    connected(): void {
      connectedAt = clock.monotonic();
    },
    nextMs(): number {
      if (clock.monotonic() - connectedAt >= USEFUL_MS) attempts = 0;
      connectedAt = Number.POSITIVE_INFINITY;
      attempts += 1;
      return pauseAfter(attempts);
    },
  };
}

/** Short, since a minute of the account is passing; by chance, so that replicas do not come all at once. */
function pauseAfter(attempt: number): number {
  return Math.min(LONGEST_PAUSE_MS, 25 * 2 ** Math.min(attempt, 6)) * (0.75 + Math.random() / 4);
}
