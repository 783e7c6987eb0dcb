import { type Loaded, renderProblems } from '../config/load.ts';
import type { Gateway } from '../gateway.ts';

export interface Reloader {
  /** From now on reloads go to this gateway; one that was asked for earlier happens now. */
  attach(gateway: Gateway): Promise<void>;
  /** Loads again, and resolves when the newest state of the files is in force or refused. Never throws. */
  reload(): Promise<void>;
}

/** One load at a time. Whoever asks during a load gets another one after it: the files may have changed meanwhile. */
export function createReloader(load: () => Promise<Loaded>): Reloader {
  let gateway: Gateway | null = null;
  let wanted = false;
  let running: Promise<void> | null = null;

  const run = async (to: Gateway): Promise<void> => {
    while (wanted) {
      wanted = false;
      await reloadOnce(to, load);
    }
    running = null;
  };
  const reload = async (): Promise<void> => {
    wanted = true;
    if (gateway === null) return;
    running ??= run(gateway);
    await running;
  };

  return {
    reload,
    attach: async (to) => {
      gateway = to;
      if (wanted) await reload();
    },
  };
}

async function reloadOnce(gateway: Gateway, load: () => Promise<Loaded>): Promise<void> {
  try {
    const loaded = await load();
    if (!loaded.ok) {
      // Without the line that counts them.
      gateway.refuseReload(renderProblems(loaded.problems).split('\n').slice(0, -1));
      return;
    }
    for (const warning of loaded.warnings) gateway.log.warn({}, warning);
    gateway.reload(loaded.settings);
  } catch (error) {
    // A fault of our own must not end a process that is serving.
    gateway.log.error({ err: error }, 'reload failed');
    gateway.refuseReload([]);
  }
}
