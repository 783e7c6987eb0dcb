import type { Clock } from '../clock.ts';
import type { Dataset } from './dataset.ts';
import type { Item } from './items.ts';

const STARTED = 1;
const SUCCESS = 2;
const FAILURE = 3;
const PARTIAL_SUCCESS = 5;

/** Runs that were started through the API. They end when a request looks at them, so that no timers are needed. */
export class Runs {
  readonly #clock: Clock;
  readonly #data: Dataset;
  /** Sorted by their end. */
  readonly #underWay: { readonly endsAt: number; readonly id: number }[] = [];

  constructor(clock: Clock, data: Dataset) {
    this.#clock = clock;
    this.#data = data;
  }

  begin(fields: Record<string, unknown>, lastsMs: number): Item {
    const created_at = new Date(this.#clock.now()).toISOString();
    const run = this.#data.create('flow-runs', { ...fields, status: STARTED, created_at, finished_at: null });
    const endsAt = this.#clock.monotonic() + lastsMs;
    let at = this.#underWay.length;
    while (at > 0 && (this.#underWay[at - 1]?.endsAt ?? 0) > endsAt) at -= 1;
    this.#underWay.splice(at, 0, { endsAt, id: run.id });
    return run;
  }

  finishDue(): void {
    const now = this.#clock.monotonic();
    let ended = 0;
    for (const { endsAt, id } of this.#underWay) {
      if (endsAt > now) break;
      ended += 1;
      this.#finish(id);
    }
    if (ended > 0) this.#underWay.splice(0, ended);
  }

  #finish(id: number): void {
    const status = outcomeOf(id);
    const finished_at = new Date(this.#clock.now()).toISOString();
    if (this.#data.update('flow-runs', id, { status, finished_at }) === undefined) return;
    this.#data.create('flow-run-logs', { flow_run_id: id, name: `run ${id} ended`, status, created_at: finished_at });
  }
}

/** A tenth of the runs fails, and a tenth is a partial success. The id decides, so that results repeat. */
function outcomeOf(id: number): number {
  if (id % 10 === 3) return FAILURE;
  return id % 10 === 5 ? PARTIAL_SUCCESS : SUCCESS;
}
