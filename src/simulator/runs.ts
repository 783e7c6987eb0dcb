import type { Clock } from '../clock.ts';
import type { Dataset } from './dataset.ts';
import type { Item } from './items.ts';
import type { Switches } from './switches.ts';

/** In the queue. The documentation has no number for it: its own begin with 1. */
const QUEUED = 0;
const STARTED = 1;
const SUCCESS = 2;
const FAILURE = 3;
const PARTIAL_SUCCESS = 5;

/** As many runs as the data keeps. */
const MAX_QUEUED = 10_000;

/**
 * Runs that were started through the API. A start is put in a queue, which is picked from at fixed times, in order, up to the limit of
 * concurrent runs. Runs change when a request looks at them, so that no timers are needed.
 */
export class Runs {
  readonly #clock: Clock;
  readonly #data: Dataset;
  readonly #switches: Switches;
  readonly #limit: () => number;
  readonly #queue: { readonly queuedAt: number; readonly id: number }[] = [];
  /** Sorted by their end. */
  readonly #underWay: { readonly endsAt: number; readonly id: number }[] = [];
  #pickedAt = Number.NEGATIVE_INFINITY;
  #endedAt = 0;

  /** @param limit the most runs at the same time */
  constructor(clock: Clock, data: Dataset, switches: Switches, limit: () => number) {
    this.#clock = clock;
    this.#data = data;
    this.#switches = switches;
    this.#limit = limit;
  }

  /** A run that is not queued starts at once, and counts as concurrent all the same. */
  begin(fields: Record<string, unknown>, { queued }: { readonly queued: boolean }): Item {
    const now = this.#clock.monotonic();
    const times = { created_at: this.#timeOf(now), started_at: null, finished_at: null };
    const run = this.#data.create('flow-runs', { ...fields, status: QUEUED, ...times });
    if (queued && this.#switches.pickMs > 0) {
      this.#queue.push({ queuedAt: now, id: run.id });
      if (this.#queue.length > MAX_QUEUED) this.#queue.shift();
      return run;
    }
    this.#start(run.id, now);
    return this.#data.get('flow-runs', run.id) ?? run;
  }

  /** Does all that has happened since the last call, in its order. */
  advance(): void {
    const now = this.#clock.monotonic();
    for (;;) {
      const endsAt = this.#underWay[0]?.endsAt ?? Number.POSITIVE_INFINITY;
      const pickAt = this.#nextPick(endsAt);
      if (Math.min(endsAt, pickAt) > now) return;
      if (endsAt <= pickAt) this.#finish();
      else this.#pick(pickAt);
    }
  }

  /** The next time at which a run can be picked: not while all concurrent runs go on. */
  #nextPick(endsAt: number): number {
    const [first] = this.#queue;
    const { pickMs } = this.#switches;
    if (first === undefined) return Number.POSITIVE_INFINITY;
    if (pickMs === 0) return first.queuedAt;
    const due = (Math.floor(first.queuedAt / pickMs) + 1) * pickMs;
    // A place that became free is of use from the next time on, not from the last one.
    const freeAt = this.#underWay.length < this.#limit() ? this.#endedAt : endsAt;
    return Math.max(due, Math.ceil(freeAt / pickMs) * pickMs, this.#pickedAt + pickMs);
  }

  #pick(at: number): void {
    this.#pickedAt = at;
    const picked = this.#queue.findIndex(({ queuedAt }) => queuedAt >= at);
    const waiting = picked === -1 ? this.#queue.length : picked;
    const free = Math.max(0, this.#limit() - this.#underWay.length);
    for (const { id } of this.#queue.splice(0, Math.min(waiting, free))) this.#start(id, at);
  }

  #start(id: number, at: number): void {
    if (this.#data.update('flow-runs', id, { status: STARTED, started_at: this.#timeOf(at) }) === undefined) return;
    const endsAt = at + this.#switches.runMs;
    let place = this.#underWay.length;
    while (place > 0 && (this.#underWay[place - 1]?.endsAt ?? 0) > endsAt) place -= 1;
    this.#underWay.splice(place, 0, { endsAt, id });
  }

  #finish(): void {
    const { id = 0, endsAt = 0 } = this.#underWay.shift() ?? {};
    this.#endedAt = endsAt;
    const status = outcomeOf(id);
    const finished_at = this.#timeOf(endsAt);
    if (this.#data.update('flow-runs', id, { status, finished_at }) === undefined) return;
    this.#data.create('flow-run-logs', { flow_run_id: id, name: `run ${id} ended`, status, created_at: finished_at });
  }

  #timeOf(monotonic: number): string {
    return new Date(this.#clock.now() - (this.#clock.monotonic() - monotonic)).toISOString();
  }
}

/** A tenth of the runs fails, and a tenth is a partial success. The id decides, so that results repeat. */
function outcomeOf(id: number): number {
  if (id % 10 === 3) return FAILURE;
  return id % 10 === 5 ? PARTIAL_SUCCESS : SUCCESS;
}
