import type { Clock } from '../clock.ts';
import type { HangUp } from '../exchange.ts';
import type { Span } from '../observe.ts';
import type { StoredAnswer } from './store.ts';

/** How a flight ended for those who waited for it. */
export type Landing =
  /** `key`: where it is stored, the variant's if it varies by `fields`. */
  | { readonly kind: 'stored'; readonly entry: StoredAnswer; readonly key: string; readonly fields: readonly string[] }
  /** The answer is of use to nobody else. */
  | { readonly kind: 'alone' }
  | { readonly kind: 'failed' }
  /** It was given up before there was an answer: another one may try. */
  | { readonly kind: 'again' };

export type HowLanded = Landing['kind'];

/** A request on its way upstream that others with the same key wait for. */
export interface Flight {
  /** The latest write of the account when it departed. */
  readonly since: number;
  readonly landed: Promise<Landing>;
  /** Happens when all who wait for it have left. */
  readonly company: Company;
  /** Of the request that departed: those who join are linked to it. Null for another replica's. */
  trace: Span | null;
  land(landing: Landing): void;
}

/** One request of a tenant that asks for a slot, while others of the same tenant and key wait for what becomes of it. */
export interface Turn {
  /** The caller has left, or somebody else's flight has departed meanwhile. */
  readonly hangUp: HangUp;
  readonly recalled: boolean;
  /** A flight for the key has departed, this one's or another's. */
  readonly departed: boolean;
  /** Resolves when it is over, whatever came of it. */
  readonly over: Promise<void>;
  end(): void;
}

/**
 * What is under way in this process, by key. Both maps are bounded by the requests in flight.
 *
 * Who misses first of each tenant asks for a slot; who gets one departs, and all others wait for that flight. So no tenant
 * waits for the quota of another, and none spends more than one slot on a key.
 */
export class Flights {
  readonly #departed = new Map<string, Flight>();
  readonly #turns = new Map<string, Map<string, OpenTurn>>();

  underWay(key: string): Flight | undefined {
    return this.#departed.get(key);
  }

  /** Whether anybody is asking, or has departed. */
  isBusy(key: string): boolean {
    return this.#departed.has(key) || this.#turns.has(key);
  }

  /** Nobody joins this one any more; those who wait for it still hear of it. */
  forget(key: string, flight: Flight): void {
    if (this.#departed.get(key) === flight) this.#departed.delete(key);
  }

  depart(key: string, since: number, trace: Span | null = null): Flight {
    let resolve: (landing: Landing) => void = () => {};
    const landed = new Promise<Landing>((settle) => {
      resolve = settle;
    });
    const company = new Company(() => this.forget(key, flight));
    const flight: Flight = {
      since,
      landed,
      company,
      trace,
      land: (landing) => {
        this.forget(key, flight);
        resolve(landing);
      },
    };
    this.#departed.set(key, flight);
    return flight;
  }

  /** The turn that this tenant's requests for the key have to wait for, if there is one. */
  turnOf(key: string, tenant: string): Turn | undefined {
    return this.#turns.get(key)?.get(tenant);
  }

  takeTurn(key: string, tenant: string, caller: HangUp): Turn {
    const turns = this.#turns.get(key) ?? new Map<string, OpenTurn>();
    const turn = new OpenTurn(caller, () => {
      turns.delete(tenant);
      if (turns.size === 0) this.#turns.delete(key);
    });
    turns.set(tenant, turn);
    this.#turns.set(key, turns);
    return turn;
  }

  /** The flight of this turn has departed: the others need no slot any more. */
  recallOthers(key: string, tenant: string): void {
    for (const [other, turn] of [...(this.#turns.get(key) ?? [])]) {
      turn.departed = true;
      if (other === tenant) turn.end();
      else turn.recall();
    }
  }
}

/** Whoever waits for one flight: it is given up when the last of them has left. */
export class Company implements HangUp {
  readonly #onEmpty: () => void;
  readonly #listeners = new Set<() => void>();
  #members = 0;
  #left = false;

  constructor(onEmpty: () => void) {
    this.#onEmpty = onEmpty;
  }

  get happened(): boolean {
    return this.#left;
  }

  onHangUp(run: () => void): () => void {
    if (this.#left) {
      run();
      return () => {};
    }
    this.#listeners.add(run);
    return () => this.#listeners.delete(run);
  }

  /** Returns how to leave; leaving twice is leaving once. */
  join(member: HangUp): () => void {
    this.#members += 1;
    let here = true;
    const leave = (): void => {
      if (!here) return;
      here = false;
      stop();
      this.#members -= 1;
      if (this.#members === 0) this.#disband();
    };
    let stop = (): void => {};
    stop = member.onHangUp(leave);
    return leave;
  }

  #disband(): void {
    this.#left = true;
    this.#onEmpty();
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const run of listeners) run();
  }
}

class OpenTurn implements Turn {
  readonly over: Promise<void>;
  readonly hangUp: Company;
  recalled = false;
  departed = false;
  readonly #leave: () => void;
  readonly #remove: () => void;
  #resolve: () => void = () => {};

  constructor(caller: HangUp, remove: () => void) {
    this.#remove = remove;
    this.over = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.hangUp = new Company(() => {});
    this.#leave = this.hangUp.join(caller);
  }

  recall(): void {
    this.recalled = true;
    this.#leave();
    this.end();
  }

  end(): void {
    this.#remove();
    this.#resolve();
  }
}

/** Of somebody who stays, whatever happens. */
export const NOBODY_LEAVES: HangUp = { happened: false, onHangUp: () => () => {} };

/** Waits for something of others', but no longer than the caller stays and than `longestMs`. */
export function awaitOthers<T>(
  what: Promise<T>,
  { clock, hangUp, longestMs }: { clock: Clock; hangUp: HangUp; longestMs: number },
): Promise<T | 'left' | 'late'> {
  return new Promise((resolve, reject) => {
    let stop = (): void => {};
    const end = (result: T | 'left' | 'late'): void => {
      cancel();
      stop();
      resolve(result);
    };
    const cancel = clock.after(longestMs, () => end('late'));
    stop = hangUp.onHangUp(() => end('left'));
    what.then(end, reject);
  });
}
