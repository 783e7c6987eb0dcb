import type { InvalidationLog } from '../../../cache/store.ts';
import type { MonotonicMs } from '../../../clock.ts';
import { createInvalidationLog } from '../../memory/cache.ts';
import { AccountInvalidation, type InvalidationOptions, type LogPosition } from './account-invalidation.ts';

/**
 * The invalidations of all replicas: Redis has one numbered log for each account, and each replica copies it to a log of its
 * own.
 *
 * A replica serves from memory only while it is *connected*: for LEASE_MS after it last read the log, which it does every
 * READ_EVERY_MS. Redis knows until when each replica may. A write's response goes out only after each replica has confirmed
 * the invalidation, or may no longer serve from memory. So every connected replica sees a completed write, and a hit needs no
 * command to Redis.
 *
 * A log that Redis has lost is begun again under a new name. Invalidations before that are unknown, so everything is invalid.
 */
export interface SharedInvalidationLog extends InvalidationLog {
  /** Reads the logs of these accounts from now on, and no others. Resolves when each was read once. */
  follow(accounts: readonly string[]): Promise<void>;
  /** Reads all logs at once: a message may have been missed. */
  catchUp(): void;
  /** The position of a write of this process in the shared log; null if it is unknown there. */
  toShared(account: string, since: number): LogPosition | null;
  /** The latest write of this process at that position; null if an invalidation since then may be unknown here. */
  toLocal(account: string, position: LogPosition): number | null;
  /** Reports to the others that this replica serves nothing any more. */
  stop(): Promise<void>;
}

const READ_EVERY_MS = 1_000;

export function createSharedInvalidationLog(options: InvalidationOptions): SharedInvalidationLog {
  const { clock, pubsub } = options;
  const local = createInvalidationLog();
  const accounts = new Map<string, AccountInvalidation>();
  let stopped = false;

  pubsub.onMessage((message) => {
    if (message.kind === 'fetched') return;
    accounts.get(message.account)?.receive(message);
  });
  const catchUp = (): void => {
    for (const each of accounts.values()) void each.read();
  };
  pubsub.onSubscribed(catchUp);
  const tick = (): void => {
    if (stopped) return;
    catchUp();
    clock.after(READ_EVERY_MS, tick);
  };
  clock.after(READ_EVERY_MS, tick);

  return {
    latestWrite: local.latestWrite,
    isValidSince: local.isValidSince,
    invalidate(account, invalidation) {
      const followed = accounts.get(account);
      if (followed === undefined) local.invalidate(account, invalidation);
      return followed?.invalidate(invalidation);
    },
    disconnectedSince(account) {
      const followed = accounts.get(account);
      // Nothing is known of an account whose log is not read.
      return followed === undefined ? (0 as MonotonicMs) : followed.disconnectedSince();
    },
    async follow(wanted) {
      for (const [id, each] of accounts) {
        if (wanted.includes(id)) continue;
        accounts.delete(id);
        void each.leave();
      }
      const added = wanted.filter((id) => !accounts.has(id));
      for (const id of added) accounts.set(id, new AccountInvalidation(id, local, options));
      await Promise.all(added.map((id) => accounts.get(id)?.read()));
    },
    catchUp,
    toShared: (account, since) => accounts.get(account)?.toShared(since) ?? null,
    toLocal: (account, position) => accounts.get(account)?.toLocal(position) ?? null,
    async stop() {
      stopped = true;
      await Promise.all([...accounts.values()].map((each) => each.leave()));
    },
  };
}
