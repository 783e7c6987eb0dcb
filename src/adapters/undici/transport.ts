import { Readable, Transform } from 'node:stream';
import { Pool } from 'undici';
import type { Clock, MonotonicMs } from '../../clock.ts';
import type { OutboundRequest, Transport, TransportResult } from '../../upstream/transport.ts';
import { Attempt } from './attempt.ts';

/** Connections to one origin: what `maxInFlight` may be at most, or requests would wait here, with a slot and unseen. */
const CONNECTIONS = 1_024;
const CONNECT_TIMEOUT_MS = 10_000;
/**
 * A connection in use is never idle, so nothing else would end it: an upstream whose name leads elsewhere since would be asked at its
 * old address for as long as that answers. The name is looked up anew with each connection. Not undici's `clientTtl`: it goes by the
 * wall clock, and asks a connection that still carries a long answer to close with every request.
 */
const CONNECTION_LIFE_MS = 60_000;

/**
 * A {@link Sender} on undici pools, one for each origin. Origins come from configuration, so their number is bounded.
 * Redirects are not followed, bodies are not decompressed, and undici's own timeouts are off: they count in whole
 * seconds, and {@link Attempt} keeps its own.
 */
export function createUndiciTransport(options: { readonly clock: Clock }): Transport {
  const { clock } = options;
  const pools = new Map<string, { readonly pool: Pool; readonly until: MonotonicMs }>();
  /** What these still carry is finished; idle connections of theirs are closed at once. */
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
      connect: { timeout: CONNECT_TIMEOUT_MS },
    });
    pools.set(origin, { pool, until: (clock.monotonic() + CONNECTION_LIFE_MS) as MonotonicMs });
    return pool;
  };

  return {
    send: (request: OutboundRequest): Promise<TransportResult> =>
      new Promise((resolve) => {
        const attempt = new Attempt(request, clock, resolve);
        if (attempt.isOver) return;
        const { target: path, method, headers } = request;
        const body = request.body instanceof Readable ? watched(request.body, attempt) : request.body;
        poolOf(request.origin).dispatch({ path, method, headers, body }, attempt);
      }),
    close: async () => {
      for (const { pool } of pools.values()) retire(pool);
      pools.clear();
      await Promise.all(closing);
    },
  };
}

/**
 * Lets the attempt see progress (a `data` listener would not do: it starts the flow before undici is there to take it), and
 * keeps undici from destroying the caller's request, whose connection still has to carry an answer.
 */
function watched(body: Readable, attempt: Attempt): Readable {
  const watch = new Transform({
    transform(chunk, _encoding, done) {
      attempt.onUpload();
      done(null, chunk);
    },
  });
  // undici takes its listener away when it is done, and the caller may break off after that.
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
