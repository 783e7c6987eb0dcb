import type { Clock, MonotonicMs } from '../clock.ts';
import type { HangUp } from '../exchange.ts';
import type { Decision, Ledger } from './ledger.ts';

type Admitted = Extract<Decision, { kind: 'admitted' }>;
type Refused = Extract<Decision, { kind: 'refused' }>;

/** How a visit ended. `waitedMs` is 0 for whoever did not have to wait. */
export type Visit =
  | { readonly kind: 'admitted'; readonly decision: Admitted; readonly waitedMs: number }
  /** `timedOut`: it waited in vain. Otherwise waiting was of no use from the start, or upstream has said so meanwhile. */
  | { readonly kind: 'refused'; readonly decision: Refused; readonly waitedMs: number; readonly timedOut: boolean }
  | { readonly kind: 'left' }
  | { readonly kind: 'closed' };

export interface Visitor {
  readonly account: string;
  readonly tenant: string;
  readonly maxWaitMs: number;
  readonly hangUp: HangUp;
}

export interface WaitingRoom {
  /** Admitted at once if there is a slot and nobody of the same tenant is waiting for one. */
  enter(visitor: Visitor): Visit | Promise<Visit>;
  waiting(account: string): number;
  /** Sends everybody home, and whoever comes later too. */
  close(): void;
}

/** More would only wait to be refused; and each holds a connection and a body. */
const LARGEST_QUEUE = 1_000;

/**
 * Where requests wait for a slot: in order within a tenant, tenants in turn. Nobody polls: one timer an account, set to
 * the moment the ledger names. Whoever leaves frees the place and has spent nothing.
 */
export function createWaitingRoom(options: { readonly ledger: Ledger; readonly clock: Clock }): WaitingRoom {
  // Accounts come from the configuration: the map is bounded by it.
  const queues = new Map<string, AccountQueue>();
  let closed = false;

  const queueOf = (account: string): AccountQueue => {
    let queue = queues.get(account);
    if (queue === undefined) {
      queue = new AccountQueue(account, options.ledger, options.clock);
      queues.set(account, queue);
    }
    return queue;
  };

  const settle = (visitor: Visitor, decision: Decision): Visit | Promise<Visit> => {
    if (decision.kind === 'admitted') return { kind: 'admitted', decision, waitedMs: 0 };
    const queue = queueOf(visitor.account);
    if (decision.retryAfterMs > visitor.maxWaitMs || queue.length >= LARGEST_QUEUE) {
      return { kind: 'refused', decision, waitedMs: 0, timedOut: false };
    }
    return queue.join(visitor, decision);
  };

  return {
    enter(visitor) {
      if (closed) return { kind: 'closed' };
      const queue = queues.get(visitor.account);
      // Behind others of the same tenant, or of any tenant if it is the account that has nothing to give, there is
      // nothing to ask for yet: it would be taken from those who came before. The first of them knows how long it takes.
      const ahead = queue?.headOf(visitor.tenant) ?? queue?.accountIsOut();
      if (ahead !== undefined) return settle(visitor, ahead.refusal);
      const decision = options.ledger.admit({ account: visitor.account, tenant: visitor.tenant });
      return decision instanceof Promise ? decision.then((later) => settle(visitor, later)) : settle(visitor, decision);
    },
    waiting: (account) => queues.get(account)?.length ?? 0,
    close() {
      closed = true;
      for (const queue of queues.values()) queue.close();
    },
  };
}

interface Guest {
  readonly visitor: Visitor;
  readonly since: MonotonicMs;
  /** What it was last told. */
  refusal: Refused;
  readonly end: (visit: Visit) => void;
  /** It has left, been refused or been admitted. */
  ended: boolean;
}

class AccountQueue {
  readonly #account: string;
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  /** By tenant, first come first; the order of the map is the turn of the tenants. */
  readonly #tenants = new Map<string, Guest[]>();
  #length = 0;
  #cancelTimer: (() => void) | null = null;
  #serving = false;

  constructor(account: string, ledger: Ledger, clock: Clock) {
    this.#account = account;
    this.#ledger = ledger;
    this.#clock = clock;
  }

  get length(): number {
    return this.#length;
  }

  headOf(tenant: string): Guest | undefined {
    return this.#tenants.get(tenant)?.[0];
  }

  /** Somebody who waits for the account, not for the own tenant's bucket. */
  accountIsOut(): Guest | undefined {
    for (const [guest] of this.#tenants.values())
      if (guest !== undefined && guest.refusal.by !== 'tenant') return guest;
    return undefined;
  }

  join(visitor: Visitor, refusal: Refused): Promise<Visit> {
    return new Promise((resolve) => {
      const since = this.#clock.monotonic();
      const cancelDeadline = this.#clock.after(visitor.maxWaitMs, () => this.#refuse(guest));
      const stopListening = visitor.hangUp.onHangUp(() => this.#remove(guest, { kind: 'left' }));
      const guest: Guest = {
        visitor,
        since,
        refusal,
        ended: false,
        end: (visit) => {
          cancelDeadline();
          stopListening();
          resolve(visit);
        },
      };
      const queue = this.#tenants.get(visitor.tenant);
      if (queue === undefined) this.#tenants.set(visitor.tenant, [guest]);
      else queue.push(guest);
      this.#length += 1;
      if (visitor.hangUp.happened) this.#remove(guest, { kind: 'left' });
      else if (this.#cancelTimer === null && !this.#serving) this.#wakeIn(refusal.retryAfterMs);
    });
  }

  close(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    for (const queue of [...this.#tenants.values()])
      for (const guest of [...queue]) this.#remove(guest, { kind: 'closed' });
  }

  #wakeIn(ms: number): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.#clock.after(ms, () => {
      this.#cancelTimer = null;
      void this.#serve();
    });
  }

  /** Gives out what there is, a slot to each tenant in turn, until nobody can be served; then sleeps until someone can. */
  async #serve(): Promise<void> {
    this.#serving = true;
    let soonestMs = Number.POSITIVE_INFINITY;
    let progress = true;
    while (progress) {
      progress = false;
      soonestMs = Number.POSITIVE_INFINITY;
      for (const tenant of [...this.#tenants.keys()]) {
        const guest = this.headOf(tenant);
        if (guest === undefined) continue;
        const decision = await this.#ledger.admit({ account: this.#account, tenant });
        if (decision.kind === 'admitted') {
          progress = true;
          this.#admit(guest, decision);
        } else {
          guest.refusal = decision;
          // Whoever will not live to see it need not wait until then.
          if (decision.retryAfterMs > this.#leftMs(guest)) this.#refuse(guest);
          else soonestMs = Math.min(soonestMs, decision.retryAfterMs);
          progress ||= guest.ended;
        }
      }
    }
    this.#serving = false;
    if (this.#length > 0) this.#wakeIn(soonestMs);
  }

  #admit(guest: Guest, decision: Admitted): void {
    // It left while the ledger was deciding: the slot goes back, spent on nobody.
    if (guest.ended) decision.slot.refund();
    else this.#remove(guest, { kind: 'admitted', decision, waitedMs: this.#clock.monotonic() - guest.since });
    const queue = this.#tenants.get(guest.visitor.tenant);
    if (queue === undefined) return;
    // The other tenants come first now.
    this.#tenants.delete(guest.visitor.tenant);
    this.#tenants.set(guest.visitor.tenant, queue);
  }

  #refuse(guest: Guest): void {
    const { refusal: decision } = guest;
    const waitedMs = this.#clock.monotonic() - guest.since;
    this.#remove(guest, { kind: 'refused', decision, waitedMs, timedOut: decision.by !== 'hold' });
  }

  #leftMs(guest: Guest): number {
    return guest.since + guest.visitor.maxWaitMs - this.#clock.monotonic();
  }

  #remove(guest: Guest, visit: Visit): void {
    if (guest.ended) return;
    guest.ended = true;
    this.#length -= 1;
    const { tenant } = guest.visitor;
    const queue = this.#tenants.get(tenant);
    queue?.splice(queue.indexOf(guest), 1);
    if (queue?.length === 0) this.#tenants.delete(tenant);
    guest.end(visit);
  }
}
