import { Readable, Transform } from 'node:stream';
import { Pool } from 'undici';
import type { Clock } from '../../clock.ts';
import type { Outbound, Sender, Sent } from '../../upstream/sender.ts';
import { Attempt } from './attempt.ts';

/** Connections to one origin: what `maxInFlight` may be at most, or requests would wait here, with a slot and unseen. */
const CONNECTIONS = 1_024;
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * A {@link Sender} on undici pools, one for each origin. Origins come from configuration, so their number is bounded.
 * Redirects are not followed, bodies are not decompressed, and undici's own timeouts are off: they count in whole
 * seconds, and {@link Attempt} keeps its own.
 */
export function createUndiciSender(options: { readonly clock: Clock }): Sender {
  const pools = new Map<string, Pool>();

  const poolOf = (origin: string): Pool => {
    let pool = pools.get(origin);
    if (pool === undefined) {
      pool = new Pool(origin, {
        connections: CONNECTIONS,
        pipelining: 1,
        allowH2: false,
        headersTimeout: 0,
        bodyTimeout: 0,
        connect: { timeout: CONNECT_TIMEOUT_MS },
      });
      pools.set(origin, pool);
    }
    return pool;
  };

  return {
    send: (request: Outbound): Promise<Sent> =>
      new Promise((resolve) => {
        const attempt = new Attempt(request, options.clock, resolve);
        poolOf(request.origin).dispatch(
          {
            path: request.target,
            method: request.method,
            headers: request.headers,
            body: request.body instanceof Readable ? watched(request.body, attempt) : request.body,
          },
          attempt,
        );
      }),
    close: async () => {
      await Promise.all([...pools.values()].map((pool) => pool.close()));
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
