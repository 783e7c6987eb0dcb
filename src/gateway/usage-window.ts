import type { Clock, MonotonicMs } from '../clock.ts';
import type { Usage } from '../telemetry/metrics.ts';

export interface UsageWindow {
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

/** An idle tenant needs no memory: the mark keeps the object of the mark before. */
function kept(last: Usage | undefined, now: Usage): Usage {
  const same =
    last?.requests === now.requests &&
    last.refused === now.refused &&
    last.wouldReject === now.wouldReject &&
    last.saved === now.saved &&
    last.hits === now.hits;
  return same ? last : now;
}

/** A tenant that was removed and came back counts from zero. */
function increase(from: Usage | undefined, to: Usage): Usage {
  if (from === undefined || to.requests < from.requests) return to;
  return {
    requests: to.requests - from.requests,
    refused: to.refused - from.refused,
    wouldReject: to.wouldReject - from.wouldReject,
    saved: to.saved - from.saved,
    reads: to.reads - from.reads,
    hits: to.hits - from.hits,
  };
}
