import type { AccountHistory, HistoryStatus } from '../admin/status/document.ts';
import { type Clock, every, type MonotonicMs } from '../clock.ts';
import { addUsage, type Usage } from '../telemetry/metrics.ts';

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

interface UsageWindow {
  /** A slice of time is over; called by the timer that samples. */
  advance(): void;
  /** Usage of each tenant in the last `seconds`. */
  read(): { readonly seconds: number; readonly byTenant: ReadonlyMap<string, Usage> };
}

interface Mark {
  readonly at: MonotonicMs;
  readonly usages: ReadonlyMap<string, Usage>;
}

/**
 * Usage of the last minutes, from counters that only grow: their present values less those of the oldest mark. The window
 * keeps `marks` marks, so it is as long as that many slices, less the slice that is not over yet.
 */
export function createUsageWindow(options: {
  readonly clock: Clock;
  readonly marks: number;
  readonly read: () => ReadonlyMap<string, Usage>;
}): UsageWindow {
  const { clock, read } = options;
  if (!(options.marks >= 1)) throw new RangeError('a window needs at least one mark');
  let marks: readonly Mark[] = [{ at: clock.monotonic(), usages: new Map() }];

  return {
    advance() {
      const last = marks.at(-1)?.usages;
      // An idle tenant needs no memory: the mark keeps the object of the mark before.
      const kept = (before: Usage | undefined, usage: Usage) => (before?.requests === usage.requests ? before : usage);
      const usages = new Map([...read()].map(([tenant, usage]) => [tenant, kept(last?.get(tenant), usage)]));
      marks = [...marks, { at: clock.monotonic(), usages }].slice(-options.marks);
    },
    read() {
      const [oldest = { at: clock.monotonic(), usages: new Map<string, Usage>() }] = marks;
      const byTenant = new Map(
        [...read()].map(([tenant, usage]) => [tenant, increase(oldest.usages.get(tenant), usage)]),
      );
      return { seconds: Math.round((clock.monotonic() - oldest.at) / 1000), byTenant };
    },
  };
}

/** A tenant that was removed and came back counts from zero. */
function increase(from: Usage | undefined, to: Usage): Usage {
  return from === undefined || to.requests < from.requests ? to : addUsage(to, from, -1);
}
