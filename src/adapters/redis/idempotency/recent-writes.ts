import type { KeyedWrite, WriteOutcome } from '../../../idempotency/store.ts';

/** A server that takes over lacks the last moments: a second or two in a fail-over by command, in which the old one goes on. */
const RECENT_MS = 30_000;
/** Responses beyond are not entered again: their writes are, with the status alone. */
const MAX_RESPONSE_BYTES = 1024 * 1024;
/** Ended writes. An account with a ceiling of 240 a minute has some 120. */
const MAX_ENDED = 10_000;

export type Ended = Exclude<WriteOutcome, { kind: 'released' }>;

export interface RecentWrite {
  readonly write: KeyedWrite;
  /** By the monotonic clock, as the argument `now` of each function. */
  readonly leaseEnd: number;
  /** Null: it is in progress. */
  readonly outcome: Ended | null;
  readonly endedAt: number;
}

/** The keyed writes of one account that this replica has in progress, or has ended a moment ago. */
export class RecentWrites {
  /** By owner: the order is that of their last change. */
  readonly #writes = new Map<string, RecentWrite>();
  #ended = 0;
  #responseBytes = 0;

  get size(): number {
    return this.#writes.size;
  }

  all(): IterableIterator<RecentWrite> {
    return this.#writes.values();
  }

  begun(write: KeyedWrite, now: number): void {
    this.#set({ write, leaseEnd: now + write.leaseMs, outcome: null, endedAt: Number.POSITIVE_INFINITY });
  }

  ended(write: KeyedWrite, outcome: WriteOutcome, now: number): void {
    const before = this.#writes.get(write.owner);
    // A write that was never begun here is released after its begin had no reply.
    if (before === undefined) return;
    this.#remove(before);
    if (outcome.kind === 'released') return;
    this.#set({ ...before, outcome: this.#bounded(outcome), endedAt: now });
    if (this.#ended > MAX_ENDED) this.#removeOldestEnded();
  }

  /** Forgets the writes that any server has received by now. */
  forget(now: number): void {
    for (const each of this.#writes.values()) {
      if (now > Math.min(each.endedAt, each.leaseEnd) + RECENT_MS) this.#remove(each);
    }
  }

  #removeOldestEnded(): void {
    for (const each of this.#writes.values()) {
      if (each.outcome === null) continue;
      this.#remove(each);
      return;
    }
  }

  #bounded(outcome: Ended): Ended {
    if (this.#responseBytes + bytesOf(outcome) <= MAX_RESPONSE_BYTES) return outcome;
    return outcome.kind === 'unknown' ? outcome : withoutBody(outcome);
  }

  #set(write: RecentWrite): void {
    this.#writes.set(write.write.owner, write);
    this.#count(write, 1);
  }

  #remove(write: RecentWrite): void {
    this.#writes.delete(write.write.owner);
    this.#count(write, -1);
  }

  #count({ outcome }: RecentWrite, sign: 1 | -1): void {
    if (outcome === null) return;
    this.#ended += sign;
    this.#responseBytes += sign * bytesOf(outcome);
  }
}

function bytesOf(outcome: Ended): number {
  if (outcome.kind === 'unknown') return 0;
  const { headers, body } = outcome.response;
  return headers.reduce((sum, item) => sum + item.length, body?.length ?? 0);
}

/** A repeat gets the status alone: the headers mean nothing without the body. */
function withoutBody({ kind, response: { status } }: Extract<Ended, { kind: 'completed' }>): Ended {
  return { kind, response: { status, headers: [], body: null } };
}
