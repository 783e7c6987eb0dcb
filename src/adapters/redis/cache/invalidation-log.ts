import { createInvalidationLog, type InvalidationLog } from '../../../cache/invalidation-log.ts';
import type { MonotonicMs } from '../../../clock.ts';
import { Followed, type FollowOptions, type SharedPosition } from './account-invalidation.ts';

/**
 * The drops of all replicas: one log an account in Redis, numbered, which each replica follows into a log of its own.
 *
 * A replica serves from memory only while it is *in touch*: for LEASE_MS from when it last asked for the log, which it does
 * every FOLLOW_MS. Redis keeps until when each replica may. Whoever drops something waits, before the answer to the write
 * goes out, until each of them has said that it has dropped it too, or may no longer serve from memory. So a write that was
 * answered is seen on every replica in touch, with no command on the way of a hit; and a replica that hears nothing knows it.
 *
 * A log that was lost gets a new name (`base`): then nothing is known of what was dropped before, and everything is.
 */
export interface SharedDrops extends InvalidationLog {
  /** Follows these accounts from now on, and no others. Resolves when each was asked for once. */
  follow(accounts: readonly string[]): Promise<void>;
  /** Asks for all at once: something may have been missed. */
  catchUp(): void;
  /** A position of this process as all replicas understand it; null if nothing is known of it there. */
  toShared(account: string, since: number): SharedPosition | null;
  /** The other way round; null if what was dropped since then is not known here. */
  toLocal(account: string, position: SharedPosition): number | null;
  /** Tells the others that this replica serves nothing any more. */
  stop(): Promise<void>;
}

const FOLLOW_MS = 1_000;

export function createSharedDrops(options: FollowOptions): SharedDrops {
  const { clock, bus } = options;
  const local = createInvalidationLog();
  const accounts = new Map<string, Followed>();
  let stopped = false;

  bus.onMessage((message) => {
    if (message.kind === 'drop' || message.kind === 'dropped') accounts.get(message.account)?.hear(message);
  });
  const catchUp = (): void => {
    for (const each of accounts.values()) void each.follow();
  };
  bus.onListening(catchUp);
  const tick = (): void => {
    if (stopped) return;
    catchUp();
    clock.after(FOLLOW_MS, tick);
  };
  clock.after(FOLLOW_MS, tick);

  return {
    latestWrite: local.latestWrite,
    isValidSince: local.isValidSince,
    invalidate(account, dropped) {
      const followed = accounts.get(account);
      if (followed === undefined) local.invalidate(account, dropped);
      return followed?.drop(dropped);
    },
    disconnectedSince(account) {
      const followed = accounts.get(account);
      // Of an account that is not followed nothing was ever heard.
      return followed === undefined ? (0 as MonotonicMs) : followed.doubtSince();
    },
    async follow(wanted) {
      for (const [id, each] of accounts) {
        if (wanted.includes(id)) continue;
        accounts.delete(id);
        void each.leave();
      }
      const added = wanted.filter((id) => !accounts.has(id));
      for (const id of added) accounts.set(id, new Followed(id, local, options));
      await Promise.all(added.map((id) => accounts.get(id)?.follow()));
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
