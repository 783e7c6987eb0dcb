import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import type { FetchResultKind } from '../../../cache/coalescing.ts';
import { accountOf } from '../../../cache/key.ts';
import type { Announced, ReplicaCoalescing } from '../../../cache/options.ts';
import { every } from '../../../clock.ts';
import { createScript, runScript } from '../client/scripts.ts';
import type { SharedCacheOptions } from './account-invalidation.ts';
import type { SharedInvalidationLog } from './invalidation-log.ts';
import { nameOf, type SharedResponses } from './response-store.ts';

/*
 * KEYS 1 an in-flight fetch   ARGV 1 its token
 * announce: KEYS 2 where its response will be stored   ARGV 2 how long it is known without an extension, as in `extend`. Returns 0:
 * another replica fetches; 1: this one does; 2: this one does, and a response is stored
 * finish: ARGV 2 channel   3 message to those who wait
 */
const announceFetch = createScript(`
if not redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 0 end
return 1 + redis.call('EXISTS', KEYS[2])`);
const extendFetch = createScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`);
const finishFetch = createScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return redis.call('PUBLISH', ARGV[2], ARGV[3])`);

/** A fetch that is not extended for this long is over: its replica is gone. */
const TTL_MS = 3_000;
const EXTEND_EVERY_MS = 1_000;
/** A replica that waits checks this often that the fetch goes on: the message of its end may get lost. */
const CHECK_EVERY_MS = 500;
/** No request to the upstream takes longer. */
const MAX_FETCH_MS = 600_000;

interface RedisCoalescingOptions extends SharedCacheOptions {
  readonly responses: SharedResponses;
  readonly invalidations: SharedInvalidationLog;
}

/**
 * The in-flight fetches of all replicas: a key in Redis for each of them, and a message to all at its end. While Redis does not
 * respond, each replica fetches for itself.
 */
export function createRedisCoalescing(options: RedisCoalescingOptions): ReplicaCoalescing {
  const { client, responses, pubsub, invalidations, prefix, replica, clock } = options;
  /** The results of other replicas by the names of their fetches. As many listen as requests are in flight here at most. */
  const results = new EventEmitter().setMaxListeners(0);

  pubsub.onMessage((message) => {
    if (message.kind === 'fetched' && message.by !== replica) results.emit(message.fetch, message.result);
  });

  const wait = (fetch: string) => {
    let cancelCheck = (): void => {};
    let end: (kind: FetchResultKind) => void = () => {};
    const stop = (): void => {
      cancelCheck();
      results.off(fetch, end);
    };
    const result = new Promise<FetchResultKind>((resolve) => {
      end = (kind) => {
        stop();
        resolve(kind);
      };
    });
    results.on(fetch, end);
    const startChecking = (): void => {
      cancelCheck = clock.after(CHECK_EVERY_MS, () => {
        client.exists(fetch).then(
          (count) => (count === 1 ? startChecking() : end('cancelled')),
          () => end('cancelled'),
        );
      });
    };
    return { result, startChecking, stop };
  };

  const finish = async (fetch: string, token: string, result: Promise<FetchResultKind>): Promise<void> => {
    const until = clock.monotonic() + MAX_FETCH_MS;
    const stopExtending = every(clock, EXTEND_EVERY_MS, () => {
      // Without the extension other replicas may fetch too.
      if (clock.monotonic() < until) runScript(client, extendFetch, [fetch], [token, TTL_MS]).catch(() => {});
      else stopExtending();
    });
    try {
      const kind = await result;
      // The waiting replicas look up the response at once.
      await responses.written();
      const message = JSON.stringify({ kind: 'fetched', fetch, result: kind, by: replica });
      await runScript(client, finishFetch, [fetch], [token, pubsub.channel, message]);
    } catch {
      // The waiting replicas find out by their next check.
    } finally {
      stopExtending();
    }
  };

  return {
    async announce(key, since, result) {
      if (!options.isReady()) return FETCH_ALONE;
      const position = invalidations.toShared(accountOf(key), since);
      // A request after a write does not wait for a fetch from before it.
      const fetch = nameOf(prefix, `${key}\n${position?.log}\n${position?.at}`, 'fetch');
      const token = randomUUID();
      // Before it is known whether another replica fetches, because the message of its end may come at any time.
      const waiter = wait(fetch);
      try {
        const reply = await runScript(client, announceFetch, [fetch, nameOf(prefix, key)], [token, TTL_MS]);
        if (reply === 0) {
          waiter.startChecking();
          return { kind: 'theirs', result: waiter.result };
        }
        void finish(fetch, token, result);
        waiter.stop();
        return { kind: 'ours', stored: reply === 2 };
      } catch {
        waiter.stop();
        return FETCH_ALONE;
      }
    },
  };
}

const FETCH_ALONE: Announced = { kind: 'ours', stored: false };
