import { WINDOW_MS } from './lease-window.ts';

/** A booking that is not taken up is forgotten this long after its time. */
export const LAPSE_MS = 2_000;
/** The part of the admissions that go to newcomers is a mean over so many of the latest. */
const NEWCOMERS_OVER = 64;
const MAX_NEWCOMERS = 0.5;
/** So many appointments a minute more than there will be slots, so that none stays unused. */
const SPARE_APPOINTMENTS = 6;
/**
 * Callers are late by what their clocks and ways take, and a slot must not stay unused meanwhile: they come so much early, or
 * by so many slot intervals, and wait for the rest.
 */
const EARLY_MS = 1_500;
const EARLY_SLOTS = 2;
/** Appointments of one tenant; requests beyond them are refused without one. */
const MAX_APPOINTMENTS = 1_000;

/** RFC 9218 section 4.1: 0 is the most urgent, 7 the least. */
export const DEFAULT_URGENCY = 3;
/** A waiting request gains a level of urgency in this time. */
const LEVEL_MS = 1_000;
/** A request with an appointment comes before those without, which wait for 30 s at most. */
const APPOINTED_MS = -40_000;

/**
 * Place of a request among the waiting ones of its tenant, relative to its arrival: the lowest is first. As all gain levels alike,
 * the order of two requests never changes: a request is overtaken only by what arrives less than seven seconds after it.
 */
export function rankMsOf(urgency: number, isAppointed: boolean): number {
  return isAppointed ? APPOINTED_MS : urgency * LEVEL_MS;
}

interface Waiting {
  /** Its place among the requests of its tenant: the lowest is first, of equal ones the earlier. */
  readonly rank: number;
  /** It asks again until then. */
  readonly until: number;
  /** Its tenant did not compete as it came. */
  readonly isNewcomer: boolean;
}

interface TenantBookings {
  /** Requests that wait, by id. */
  readonly waiting: Map<number, Waiting>;
  /** Times that refused callers received, ascending. */
  appointments: number[];
  /** They compete for the account's slots. If not, the tenant's own rate holds them back. */
  competes: boolean;
}

/**
 * Requests of an account that are to have a slot later: those that wait for one, and those whose callers received a
 * time to come back at. They say how many slots are spoken for, so that the next caller receives a time that will be true. An appointment
 * reserves no slot: it lets a request of its tenant stand before those that have none.
 */
export class Bookings {
  readonly #tenants = new Map<string, TenantBookings>();
  #lastId = 0;
  /** The part of the admissions that go to newcomers: tenants that take a slot now and then have no booking most of the time. */
  #newcomers = 0;

  /** Forgets what was not taken up. */
  expire(now: number): void {
    for (const [tenant, { waiting, appointments }] of this.#tenants) {
      for (const [id, { until }] of waiting) if (until < now - LAPSE_MS) waiting.delete(id);
      const kept = appointments.findIndex((at) => at >= now - LAPSE_MS);
      if (kept !== 0) appointments.splice(0, kept < 0 ? appointments.length : kept);
      this.#forgetIfEmpty(tenant);
    }
  }

  /** @param known the id of a request that has waited before @returns its id */
  wait(tenant: string, waiting: Waiting, competes: boolean, known?: number): number {
    if (known === undefined) this.#lastId += 1;
    const id = known ?? this.#lastId;
    const bookings = this.#of(tenant);
    bookings.waiting.set(id, waiting);
    bookings.competes = competes;
    return id;
  }

  /** @returns false: there are too many */
  appoint(tenant: string, at: number, competes: boolean): boolean {
    const bookings = this.#of(tenant);
    const { appointments } = bookings;
    bookings.competes = competes;
    if (appointments.length >= MAX_APPOINTMENTS) return false;
    let index = appointments.length;
    while (index > 0 && (appointments[index - 1] as number) > at) index -= 1;
    appointments.splice(index, 0, at);
    return true;
  }

  cancel(tenant: string, id: number): void {
    this.#tenants.get(tenant)?.waiting.delete(id);
    this.#forgetIfEmpty(tenant);
  }

  /** The tenant's first appointment that is due is used. */
  use(tenant: string, now: number): boolean {
    const appointments = this.#tenants.get(tenant)?.appointments;
    const [first] = appointments ?? [];
    if (appointments === undefined || first === undefined || first > now) return false;
    appointments.shift();
    this.#forgetIfEmpty(tenant);
    return true;
  }

  waitingAt(tenant: string, id: number | undefined): Waiting | undefined {
    return this.#tenants.get(tenant)?.waiting.get(id ?? 0);
  }

  /** Requests of the tenant that wait, and come before one of this rank and id. */
  waiting(tenant: string, rank = Number.POSITIVE_INFINITY, id = Number.POSITIVE_INFINITY): number {
    let count = 0;
    for (const [each, { rank: its }] of this.#tenants.get(tenant)?.waiting ?? [])
      if (its < rank || (its === rank && each < id)) count += 1;
    return count;
  }

  appointments(tenant: string): readonly number[] {
    return this.#tenants.get(tenant)?.appointments ?? [];
  }

  /** Tenants whose requests compete for the account's slots. */
  competing(): string[] {
    return [...this.#tenants].flatMap(([tenant, { competes }]) => (competes ? [tenant] : []));
  }

  /** While others compete, a request was admitted. */
  admittedBeside(isNewcomer: boolean): void {
    this.#newcomers += ((isNewcomer ? 1 : 0) - this.#newcomers) / NEWCOMERS_OVER;
  }

  /**
   * When the caller of a slot that is free for those that compete in `waitMs` is to come back: newcomers take some slots
   * meanwhile, and the caller can wait for the last moments itself.
   *
   * @param intervalMs between two slots
   */
  appointmentMs(waitMs: number, maxWaitMs: number, intervalMs: number): number {
    const spare = (SPARE_APPOINTMENTS * intervalMs) / WINDOW_MS;
    const newcomers = Math.max(0, Math.min(MAX_NEWCOMERS, this.#newcomers) - spare);
    const earlyMs = Math.min(maxWaitMs, Math.max(EARLY_MS, EARLY_SLOTS * intervalMs));
    return waitMs / (1 - newcomers) - earlyMs;
  }

  forget(tenant: string): void {
    this.#tenants.delete(tenant);
  }

  #of(tenant: string): TenantBookings {
    const bookings = this.#tenants.get(tenant) ?? { waiting: new Map(), appointments: [], competes: true };
    this.#tenants.set(tenant, bookings);
    return bookings;
  }

  #forgetIfEmpty(tenant: string): void {
    const bookings = this.#tenants.get(tenant);
    if (bookings?.waiting.size === 0 && bookings.appointments.length === 0) this.#tenants.delete(tenant);
  }
}
