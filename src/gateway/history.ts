import type { AccountHistory, HistoryStatus } from '../admin/status/document.ts';
import { type Clock, every } from '../clock.ts';

/** The state of an account at one moment. */
export interface AccountSample {
  readonly slotsInUse: number;
  readonly externalUsage: number;
  readonly waiting: number;
  readonly cooldown: number;
}

export interface History {
  start(): void;
  stop(): void;
  /** Samples ever taken. */
  taken(): number;
  /** The kept samples, without the first `seen` ever taken. */
  since(seen: number): HistoryStatus;
}

interface Sample {
  readonly at: number;
  readonly accounts: ReadonlyMap<string, AccountSample>;
}

/** The last minutes of all accounts: a timer fills a ring of `keepMs / everyMs` samples, with or without a reader. */
export function createHistory(options: {
  readonly clock: Clock;
  readonly everyMs: number;
  readonly keepMs: number;
  readonly read: () => ReadonlyMap<string, AccountSample>;
  /** After each sample. */
  readonly onSample?: () => void;
}): History {
  const { clock, everyMs, keepMs } = options;
  const most = Math.floor(keepMs / everyMs);
  if (!(most >= 1)) throw new RangeError('a history keeps at least one sample');
  const samples: Sample[] = [];
  let taken = 0;
  let cancel = (): void => {};

  const take = (): void => {
    samples.push({ at: clock.now(), accounts: options.read() });
    if (samples.length > most) samples.shift();
    taken += 1;
    options.onSample?.();
  };

  return {
    start() {
      take();
      cancel = every(clock, everyMs, take);
    },
    stop: () => cancel(),
    taken: () => taken,
    since(seen) {
      const fresh = samples.slice(Math.max(0, samples.length - Math.max(0, taken - seen)));
      const ids = new Set(fresh.flatMap(({ accounts }) => [...accounts.keys()]));
      const accounts = Object.fromEntries([...ids].map((id) => [id, columnsOf(id, fresh)]));
      return { everyMs, keepMs, at: fresh.map(({ at }) => at), accounts };
    },
  };
}

function columnsOf(id: string, samples: readonly Sample[]): AccountHistory {
  const column = (field: keyof AccountSample) => samples.map(({ accounts }) => accounts.get(id)?.[field] ?? null);
  return {
    slotsInUse: column('slotsInUse'),
    externalUsage: column('externalUsage'),
    waiting: column('waiting'),
    cooldown: column('cooldown'),
  };
}
