import type { Clock, MonotonicMs } from '../clock.ts';
import type { ClientDisconnect } from '../context.ts';
import { type Span, traced } from '../ports.ts';
import type { Decision, Ledger } from './ledger.ts';

type Admitted = Extract<Decision, { kind: 'admitted' }>;
type Refused = Extract<Decision, { kind: 'refused' }>;

/** How a visit ended. `waitedMs` is 0 for whoever did not have to wait. */
export type Visit =
  | { readonly kind: 'admitted'; readonly decision: Admitted; readonly waitedMs: number }
  /** `timedOut`: it waited in vain. Otherwise waiting was of no use from the start, or upstream has said so meanwhile. */
  | { readonly kind: 'refused'; readonly decision: Refused; readonly waitedMs: number; readonly timedOut: boolean }
  | { readonly kind: 'left' }
  | { readonly kind: 'closed' }
  /** Its tenant may not call any more. */
  | { readonly kind: 'dismissed'; readonly because: Exclude<Standing, 'welcome'> };

/** What a tenant is by the configuration in force now, which may not be the one its request came under. */
export type Standing = 'welcome' | 'removed' | 'disabled';

export interface Visitor {
  readonly account: string;
  readonly tenant: string;
  readonly maxWaitMs: number;
  /** Nobody waits for it: see {@link Ask}. */
  readonly background?: boolean;
  readonly disconnect: ClientDisconnect;
  readonly trace?: Span | null;
}

export interface WaitingRoom {
  /** Admitted at once if there is a slot and nobody of the same tenant is waiting for one. */
  enter(visitor: Visitor): Visit | Promise<Visit>;
  /** Of one tenant, or of all. */
  waiting(account: string, tenant?: string): number;
  /** Asks anew for all who wait: what they were told no longer holds. */
  reconsider(): void;
  /** Sends those home whose tenant may not call any more. */
  dismiss(): void;
  /** Sends everybody home, and whoever comes later too. */
  close(): void;
}

/** More would only wait to be refused; and each holds a connection and a body. */
const LARGEST_QUEUE = 1_000;

/**
 * Where requests wait for a slot: in order within a tenant; which tenant is next, here and on other replicas, is for the
 * ledger to say. Nobody polls: the first of each tenant asks again at the moment the ledger named, by one timer an account.
 * Whoever leaves frees the place and has spent nothing.
 */
export function createWaitingRoom(options: {
  readonly ledger: Ledger;
  readonly clock: Clock;
  /** Asked of everyone who comes for a slot: a slow upload, too, may have been overtaken by a reload. */
  readonly standing: (tenant: string) => Standing;
}): WaitingRoom {
  const { standing } = options;
  // Accounts come from the configuration: the map is bounded by it.
  const rooms = new Map<string, AccountRoom>();
  let closed = false;

  const roomOf = (account: string): AccountRoom => {
    let room = rooms.get(account);
    if (room === undefined) {
      room = new AccountRoom(account, options.ledger, options.clock);
      rooms.set(account, room);
    }
    return room;
  };

  const settle = (visitor: Visitor, decision: Decision): Visit | Promise<Visit> => {
    if (decision.kind === 'admitted') {
      if (!closed) return { kind: 'admitted', decision, waitedMs: 0 };
      decision.slot.refund();
      return { kind: 'closed' };
    }
    if (closed) return { kind: 'closed' };
    const room = roomOf(visitor.account);
    if (decision.retryAfterMs > visitor.maxWaitMs || room.length >= LARGEST_QUEUE) {
      return { kind: 'refused', decision, waitedMs: 0, timedOut: false };
    }
    return room.join(visitor, decision);
  };

  return {
    enter(visitor) {
      if (closed) return { kind: 'closed' };
      const is = standing(visitor.tenant);
      if (is !== 'welcome') return { kind: 'dismissed', because: is };
      // Behind others of the same tenant there is nothing to ask for yet: it would be taken from those who came before.
      // The first of them knows how long it takes at least.
      const told = rooms.get(visitor.account)?.toldTo(visitor.tenant);
      if (told !== undefined) return settle(visitor, told);
      const { account, tenant, maxWaitMs, background = false, trace = null } = visitor;
      const decision = options.ledger.admit({ account, tenant, maxWaitMs, background });
      return decision instanceof Promise
        ? traced(trace, 'decide', decision).then((later) => settle(visitor, later))
        : settle(visitor, decision);
    },
    waiting: (account, tenant) => rooms.get(account)?.waiting(tenant) ?? 0,
    reconsider() {
      for (const room of rooms.values()) room.reconsider();
    },
    dismiss() {
      for (const room of rooms.values()) room.dismiss(standing);
    },
    close() {
      closed = true;
      for (const room of rooms.values()) room.close();
    },
  };
}

interface Guest {
  readonly visitor: Visitor;
  readonly since: MonotonicMs;
  readonly end: (visit: Visit) => void;
  /** Of its wait. */
  readonly span: Span | null;
  /** It has left, been refused or been admitted. */
  ended: boolean;
}

/** The guests of one tenant, first come first. */
interface Queue {
  readonly guests: Guest[];
  /** What the first of them was last told, and when. */
  told: Refused;
  toldAt: MonotonicMs;
  /** The ledger is being asked for the first of them. */
  asking: boolean;
}

class AccountRoom {
  readonly #account: string;
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #queues = new Map<string, Queue>();
  #length = 0;
  #cancelTimer: (() => void) | null = null;
  #timerDueAt = Number.POSITIVE_INFINITY;

  constructor(account: string, ledger: Ledger, clock: Clock) {
    this.#account = account;
    this.#ledger = ledger;
    this.#clock = clock;
  }

  get length(): number {
    return this.#length;
  }

  waiting(tenant?: string): number {
    return tenant === undefined ? this.#length : (this.#queues.get(tenant)?.guests.length ?? 0);
  }

  /** What the first guest of the tenant was told, with what is left of its wait; undefined if there is none. */
  toldTo(tenant: string): Refused | undefined {
    const queue = this.#queues.get(tenant);
    if (queue === undefined) return undefined;
    return { ...queue.told, retryAfterMs: Math.max(0, this.#dueAt(queue) - this.#clock.monotonic()) };
  }

  join(visitor: Visitor, told: Refused): Promise<Visit> {
    return new Promise((resolve) => {
      const since = this.#clock.monotonic();
      const span = visitor.trace?.start('wait') ?? null;
      let stopListening = (): void => {};
      const guest: Guest = {
        visitor,
        since,
        span,
        ended: false,
        end: (visit) => {
          span?.end({ decision: visit.kind === 'refused' ? visit.decision.by : visit.kind });
          cancelDeadline();
          stopListening();
          resolve(visit);
        },
      };
      const cancelDeadline = this.#clock.after(visitor.maxWaitMs, () => this.#refuse(guest));
      const queue = this.#queues.get(visitor.tenant);
      if (queue === undefined) {
        this.#queues.set(visitor.tenant, { guests: [guest], told, toldAt: since, asking: false });
      } else queue.guests.push(guest);
      this.#length += 1;
      // Last: a caller who left while the ledger was deciding is told of at once, and all that this touches must be there.
      stopListening = visitor.disconnect.onDisconnect(() => this.#remove(guest, { kind: 'left' }));
      if (!guest.ended) this.#setTimer();
    });
  }

  reconsider(): void {
    for (const tenant of [...this.#queues.keys()]) void this.#serve(tenant);
  }

  dismiss(standing: (tenant: string) => Standing): void {
    for (const [tenant, { guests }] of [...this.#queues]) {
      const is = standing(tenant);
      if (is === 'welcome') continue;
      for (const guest of [...guests]) this.#remove(guest, { kind: 'dismissed', because: is });
    }
  }

  close(): void {
    for (const { guests } of [...this.#queues.values()])
      for (const guest of [...guests]) this.#remove(guest, { kind: 'closed' });
    this.#cancelTimer?.();
    this.#cancelTimer = null;
  }

  #dueAt({ told, toldAt }: Queue): number {
    return toldAt + told.retryAfterMs;
  }

  /** One timer for all tenants, set to the first that is due. */
  #setTimer(): void {
    let dueAt = Number.POSITIVE_INFINITY;
    for (const queue of this.#queues.values()) if (!queue.asking) dueAt = Math.min(dueAt, this.#dueAt(queue));
    if (dueAt === this.#timerDueAt && this.#cancelTimer !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#timerDueAt = dueAt;
    if (dueAt === Number.POSITIVE_INFINITY) return;
    this.#cancelTimer = this.#clock.after(dueAt - this.#clock.monotonic(), () => {
      this.#cancelTimer = null;
      const now = this.#clock.monotonic();
      for (const [tenant, queue] of [...this.#queues]) if (this.#dueAt(queue) <= now) void this.#serve(tenant);
      this.#setTimer();
    });
  }

  /** Asks for the first guest of a tenant, and for the next, until one is refused. */
  async #serve(tenant: string): Promise<void> {
    const queue = this.#queues.get(tenant);
    if (queue === undefined || queue.asking) return;
    queue.asking = true;
    let inLine = false;
    for (let [first] = queue.guests; first !== undefined; [first] = queue.guests) {
      const asked = this.#ledger.admit({ account: this.#account, tenant, maxWaitMs: this.#leftMs(first) });
      const decision = await traced(first.span, 'decide', asked);
      const [guest] = queue.guests;
      inLine = decision.kind === 'refused';
      if (decision.kind === 'admitted') {
        // All have left while the ledger was deciding: the slot goes back, spent on nobody.
        if (guest === undefined) decision.slot.refund();
        else {
          const waitedMs = this.#clock.monotonic() - guest.since;
          this.#remove(guest, { kind: 'admitted', decision, waitedMs });
        }
        continue;
      }
      queue.told = decision;
      queue.toldAt = this.#clock.monotonic();
      this.#refuseHopeless(queue);
      break;
    }
    queue.asking = false;
    // All have left or been refused: nobody will come to claim the place in line.
    if (inLine && !this.#queues.has(tenant)) this.#ledger.withdraw(this.#account, tenant);
    this.#setTimer();
  }

  #leftMs({ since, visitor }: Guest): number {
    return Math.max(0, since + visitor.maxWaitMs - this.#clock.monotonic());
  }

  /** Whoever will not live to see it need not wait until then. */
  #refuseHopeless({ guests, told }: Queue): void {
    for (const guest of [...guests]) if (told.retryAfterMs > this.#leftMs(guest)) this.#refuse(guest);
  }

  #refuse(guest: Guest): void {
    const told = this.toldTo(guest.visitor.tenant);
    if (told === undefined) return;
    const waitedMs = this.#clock.monotonic() - guest.since;
    const timedOut = told.by === 'tenant' || told.by === 'account';
    this.#remove(guest, { kind: 'refused', decision: told, waitedMs, timedOut });
  }

  #remove(guest: Guest, visit: Visit): void {
    if (guest.ended) return;
    guest.ended = true;
    this.#length -= 1;
    const { tenant } = guest.visitor;
    const queue = this.#queues.get(tenant);
    if (queue !== undefined) {
      queue.guests.splice(queue.guests.indexOf(guest), 1);
      if (queue.guests.length === 0) {
        this.#queues.delete(tenant);
        if (!queue.asking && visit.kind !== 'admitted') this.#ledger.withdraw(this.#account, tenant);
        if (!queue.asking) this.#setTimer();
      }
    }
    guest.end(visit);
  }
}
