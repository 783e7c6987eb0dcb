import { type Loaded, renderProblems } from '../config/load.ts';
import type { Settings } from '../config/model.ts';
import { lookAgain, recordingReader, type Seen, sameSeen } from '../config/seen.ts';
import type { ReadFile } from '../config/substitute.ts';
import type { Gateway } from '../gateway.ts';

type Outcome = ReturnType<Gateway['reload']>;

export interface Reloader {
  /** The first load, for whoever makes the gateway. */
  first(): Promise<Loaded>;
  /** From now on reloads go to this gateway; one that was asked for earlier happens now. `after` is called after each. */
  attach(gateway: Gateway, after: () => void): Promise<void>;
  /** Loads again. The outcome is that of a load which began after the call. Never throws. */
  reload(): Promise<Outcome>;
  /** What the latest load has read, whatever came of it. */
  seen(): Seen;
  /** What the latest good load has given. */
  latest(): Settings | null;
}

/** Files that are swapped while they are read are read again, but not for ever: the watch will see the rest. */
const MOST_READS = 3;

/** One load at a time. Whoever asks during a load gets the next one, together with all others who do. */
export function createReloader(load: (readFile: ReadFile) => Promise<Loaded>): Reloader {
  let seen: Seen = new Map();
  let latest: Settings | null = null;
  let target: { readonly gateway: Gateway; readonly after: () => void } | null = null;
  let attached: () => void = () => {};
  /** The load that runs; before there is a gateway, none does. */
  let running: Promise<unknown> = new Promise<void>((resolve) => {
    attached = resolve;
  });
  /** The one after it, if anybody asked. */
  let next: Promise<Outcome> | null = null;

  /** All files in one state, as far as that is to be had. */
  const read = async (): Promise<Loaded> => {
    for (let reads = 1; ; reads++) {
      const reader = recordingReader();
      try {
        const loaded = await load(reader.readFile);
        if (reads < MOST_READS && !sameSeen(reader.seen, await lookAgain(reader.seen))) continue;
        if (loaded.ok) latest = loaded.settings;
        return loaded;
      } finally {
        seen = reader.seen;
      }
    }
  };
  const once = async (): Promise<Outcome> => {
    if (target === null) throw new Error('no gateway to reload');
    const { gateway, after } = target;
    try {
      return apply(gateway, await read());
    } catch (error) {
      // A fault of our own must not end a process that is serving.
      gateway.log.error({ err: error }, 'reload failed');
      return gateway.refuseReload(['the gateway itself failed at it: see its log']);
    } finally {
      after();
    }
  };

  return {
    first: read,
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

function apply(gateway: Gateway, loaded: Loaded): Outcome {
  // Without the line that counts them.
  if (!loaded.ok) return gateway.refuseReload(renderProblems(loaded.problems).split('\n').slice(0, -1));
  for (const warning of loaded.warnings) gateway.log.warn({}, warning);
  return gateway.reload(loaded.settings);
}
