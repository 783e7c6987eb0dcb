import type { AccountHistory, HistoryStatus } from '../admin/status/document.ts';
import { type Clock, every, type MonotonicMs } from '../clock.ts';
import { addUsage, type Usage } from '../telemetry/metrics.ts';

export interface AccountSample {
  readonly slotsInUse: number;
  readonly externalUsage: number;
  readonly waiting: number;
  readonly cooldown: number;
}

interface Sample {
  readonly at: number;
  readonly accounts: ReadonlyMap<string, AccountSample>;
}

/** The usage of all tenants since the process began, at one moment. */
interface Mark {
  readonly at: MonotonicMs;
  readonly usages: ReadonlyMap<string, Usage>;
}

/** 15 minutes hold a whole incident of a window of 60 s; 5 s show a burst. 180 samples of some 100 bytes an account. */
const SAMPLE_MS = 5_000;
const KEEP_MS = 15 * 60_000;
/** Ten slices of 30 s are the five minutes in which tenants are compared. */
const SAMPLES_A_SLICE = 6;
const SLICES = 10;

/** The last minutes of all accounts and tenants. A timer fills two rings, with or without a reader. */
export function createHistory({
  clock,
  readAccounts,
  readUsage,
}: {
  readonly clock: Clock;
  readonly readAccounts: () => ReadonlyMap<string, AccountSample>;
  readonly readUsage: () => ReadonlyMap<string, Usage>;
}) {
  let samples: readonly Sample[] = [];
  let taken = 0;
  let marks: readonly Mark[] = [{ at: clock.monotonic(), usages: new Map() }];
  let cancel = (): void => {};

  const mark = (): void => {
    const last = marks.at(-1)?.usages;
    // An idle tenant needs no memory: the mark keeps the object of the mark before.
    const kept = (before: Usage | undefined, usage: Usage) => (before?.requests === usage.requests ? before : usage);
    const usages = new Map([...readUsage()].map(([tenant, usage]) => [tenant, kept(last?.get(tenant), usage)]));
    marks = [...marks, { at: clock.monotonic(), usages }].slice(-SLICES);
  };
  const take = (): void => {
    samples = [...samples, { at: clock.now(), accounts: readAccounts() }].slice(-KEEP_MS / SAMPLE_MS);
    taken += 1;
    if (taken % SAMPLES_A_SLICE === 0) mark();
  };

  return {
    start() {
      take();
      cancel = every(clock, SAMPLE_MS, take);
    },
    stop: () => cancel(),
    taken: () => taken,
    /** The kept samples, without the first `seen` ever taken. */
    since(seen: number): HistoryStatus {
      const fresh = samples.slice(Math.max(0, samples.length - Math.max(0, taken - seen)));
      const ids = new Set(fresh.flatMap(({ accounts }) => [...accounts.keys()]));
      const accounts = Object.fromEntries([...ids].map((id) => [id, columnsOf(id, fresh)]));
      return { everyMs: SAMPLE_MS, keepMs: KEEP_MS, at: fresh.map(({ at }) => at), accounts };
    },
    /** Usage of each tenant in the last `seconds`: the present counts less those of the oldest mark. */
    recent() {
      const { at, usages } = marks[0] as Mark;
      const byTenant = new Map(
        [...readUsage()].map(([tenant, usage]) => [tenant, increase(usages.get(tenant), usage)]),
      );
      return { seconds: Math.round((clock.monotonic() - at) / 1000), byTenant };
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

/** A tenant that was removed and came back counts from zero. */
function increase(from: Usage | undefined, to: Usage): Usage {
  return from === undefined || to.requests < from.requests ? to : addUsage(to, from, -1);
}
