import { type Loaded, renderProblems } from '../config/load.ts';
import type { Settings } from '../config/model.ts';
import type { Reading } from '../config/reading.ts';
import { lookAgain, type Seen, sameSeen } from '../config/seen.ts';
import type { ReloadOutcome as Result } from '../edge/reload.ts';
import type { Gateway } from '../gateway.ts';
import type { Log } from '../ports.ts';

/** The part of a gateway that takes the settings of a load. */
export type Reloadable = Pick<Gateway, 'reload' | 'refuseReload'> & { readonly log: Log };

export interface Reloader {
  /** The first load, for whoever makes the gateway. */
  first(): Promise<Loaded>;
  /** From now on reloads go to this gateway; one that was asked for earlier happens now. `after` is called after each. */
  attach(gateway: Reloadable, after: () => void): Promise<void>;
  /** Loads again. The outcome is that of a load which began after the call. Never throws. */
  reload(): Promise<Result>;
  /** What the latest load has read, whatever came of it. */
  seen(): Seen;
  /** What the latest good load has given. */
  latest(): Settings | null;
}

/** Files that are swapped while they are read are read again, but not for ever: the watch will see the rest. */
const MOST_READS = 3;

/**
 * One load at a time. Whoever asks during a load gets the next one, together with all others who do.
 *
 * @param load is told what the load before has read
 */
export function createReloader(load: (before: Seen) => Promise<Reading>): Reloader {
  let seen: Seen = new Map();
  let latest: Settings | null = null;
  let target: { readonly gateway: Reloadable; readonly after: () => void } | null = null;
  let attached: () => void = () => {};
  /** The load that runs; before there is a gateway, none does. */
  let running: Promise<unknown> = new Promise<void>((resolve) => {
    attached = resolve;
  });
  /** The one after it, if anybody asked. */
  let next: Promise<Result> | null = null;

  /** All files in one state, as far as that is to be had. */
  const inOneState = async (): Promise<Loaded> => {
    for (let reads = 1; ; reads++) {
      const { loaded, seen: read } = await load(seen).catch(async (error: unknown) => {
        // Or the watch would take it for a change, and load it again and again.
        seen = await lookAgain(seen);
        throw error;
      });
      if (reads < MOST_READS && !sameSeen(read, await lookAgain(read))) continue;
      seen = read;
      if (loaded.ok) latest = loaded.settings;
      return loaded;
    }
  };
  const once = async (): Promise<Result> => {
    if (target === null) throw new Error('no gateway to reload');
    const { gateway, after } = target;
    try {
      return apply(gateway, await inOneState());
    } catch (error) {
      // A fault of our own must not end a process that is serving.
      gateway.log.error({ err: error }, 'reload failed');
      return gateway.refuseReload(['the gateway itself failed at it: see its log']);
    } finally {
      after();
    }
  };

  return {
    first: inOneState,
    reload() {
      next ??= running.then(() => {
        next = null;
        const outcome = once();
        running = outcome;
        return outcome;
      });
      return next;
    },
    async attach(gateway, after) {
      target = { gateway, after };
      attached();
      await next;
    },
    seen: () => seen,
    latest: () => latest,
  };
}

function apply(gateway: Reloadable, loaded: Loaded): Result {
  // Without the line that counts them.
  if (!loaded.ok) return gateway.refuseReload(renderProblems(loaded.problems).split('\n').slice(0, -1));
  for (const warning of loaded.warnings) gateway.log.warn({}, warning);
  return gateway.reload(loaded.settings);
}
