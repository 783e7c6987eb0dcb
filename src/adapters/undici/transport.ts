import { Readable, Transform } from 'node:stream';
import { buildConnector, Pool } from 'undici';
import { batch, type Clock, type MonotonicMs } from '../../clock.ts';
import type { OutboundRequest, Transport, TransportResult } from '../../upstream/transport.ts';
import { Attempt } from './attempt.ts';

/** Connections to one origin: the largest `maxInFlight`, or requests with a slot would wait here, where no metric shows it. */
const CONNECTIONS = 1_024;
const CONNECT_TIMEOUT_MS = 10_000;
/**
 * A busy connection is never idle and would last for ever, although the upstream's name may have a new address by now. Each new
 * connection looks the name up. undici's `clientTtl` uses the wall clock, and closes a connection that still carries a long response.
 */
const CONNECTION_LIFE_MS = 60_000;

interface Outgoing {
  readonly request: OutboundRequest;
  readonly attempt: Attempt;
  readonly reject: (error: unknown) => void;
}

/**
 * A {@link Transport} on undici pools, one for each origin; the configuration bounds their number. It follows no redirects and
 * decompresses no bodies. undici's own timeouts are off: they count whole seconds, and {@link Attempt} has its own.
 */
export function createUndiciTransport(options: { readonly clock: Clock }): Transport {
  const { clock } = options;
  const pools = new Map<string, { readonly pool: Pool; readonly until: MonotonicMs }>();
  /** Retired pools: requests in flight complete, and idle connections close at once. */
  const closing = new Set<Promise<void>>();

  const retire = (pool: Pool): void => {
    const closed = pool.close().then(() => void closing.delete(closed));
    closing.add(closed);
  };

  const poolOf = (origin: string): Pool => {
    const current = pools.get(origin);
    if (current !== undefined && clock.monotonic() < current.until) return current.pool;
    if (current !== undefined) retire(current.pool);
    const pool = new Pool(origin, {
      connections: CONNECTIONS,
      pipelining: 1,
      allowH2: false,
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: connectStrictly,
    });
    pools.set(origin, { pool, until: (clock.monotonic() + CONNECTION_LIFE_MS) as MonotonicMs });
    return pool;
  };

  // Requests of one turn of the event loop leave in a row: waking the upstream for each costs more than sending it.
  const dispatch = batch<Outgoing>((items) => {
    for (const { request, attempt, reject } of items) {
      // The caller has disconnected meanwhile.
      if (attempt.isOver) continue;
      const { target: path, method, headers } = request;
      const body = request.body instanceof Readable ? watchUpload(request.body, attempt) : request.body;
      try {
        poolOf(request.origin).dispatch({ path, method, headers, body }, attempt);
      } catch (error) {
        reject(error);
      }
    }
  });

  return {
    send: (request: OutboundRequest): Promise<TransportResult> =>
      new Promise((resolve, reject) => dispatch({ request, attempt: new Attempt(request, clock, resolve), reject })),
    close: async () => {
      for (const { pool } of pools.values()) retire(pool);
      pools.clear();
      await Promise.all(closing);
    },
  };
}

const connect = buildConnector({ timeout: CONNECT_TIMEOUT_MS, allowH2: false });

/**
 * undici takes a reset for the end of a body that has neither length nor chunks. Only a clean end is one (RFC 9112 section 8): to undici
 * a reset becomes an aborted connection, which ends no body.
 */
const connectStrictly: buildConnector.connector = (options, callback) =>
  connect(options, (...result) => {
    const [, socket] = result;
    socket?.prependListener('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET') error.code = 'ECONNABORTED';
    });
    callback(...result);
  });

/**
 * Reports an upload to the attempt, and its end; a `data` listener would start the stream before undici reads it. The copy also
 * keeps undici from destroying the caller's request, whose connection still has to carry the response.
 */
function watchUpload(body: Readable, attempt: Attempt): Readable {
  const watch = new Transform({
    transform: (chunk, _encoding, done) => done(null, chunk),
    flush(done) {
      attempt.onUploaded();
      done();
    },
  });
  attempt.onUpload(watch);
  // undici removes its listener when it is done, and the caller's stream may fail after that.
  watch.on('error', () => {});
  const fail = (error: Error): void => void watch.destroy(error);
  const breakOff = (): void => {
    if (!body.readableEnded) watch.destroy(new Error('the request body broke off'));
  };
  body.once('error', fail);
  body.once('close', breakOff);
  watch.once('close', () => {
    body.unpipe(watch);
    body.off('error', fail);
    body.off('close', breakOff);
  });
  return body.pipe(watch);
}
