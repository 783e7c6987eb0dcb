import { BIN_MS, WINDOW_MS } from '../../quota/window.ts';

/** How an account stood when this replica last heard of it for certain. Times are of this process's monotonic clock. */
export interface Standing {
  /** When the question was sent: from then on nothing is known. */
  readonly askedAt: number;
  readonly heardAt: number;
  /** What this replica may hold on its own, should it lose Redis. */
  readonly share: number;
  readonly replicas: number;
  /** Slots in flight, of all. */
  readonly inFlight: number;
  readonly ownInFlight: number;
  readonly answered: number;
  /** Tokens in the account's bucket. */
  readonly tokens: number;
  /** Answered slots by the step in which they are free, counted from the answer. */
  readonly steps: ReadonlyMap<number, number>;
  /** Of the replicas, by name: what each may hold on its own. */
  readonly shares: Readonly<Record<string, number>>;
  /** Slots left to replicas that were silent then, and may hold them on their own; and how many those are. */
  readonly reserved: number;
  readonly silent: number;
  /** Some slots belong to no living replica. */
  readonly orphans: boolean;
  /** A state made anew waits this long for the other replicas. Until then not all slots are in it. */
  readonly closedForMs: number;
  readonly slotsForeign: number;
  readonly foreignUntil: number;
  readonly heldUntil: number;
}

/** A replica that is silent this long has its share reserved by Redis (roster.lua), at the latest. */
const SILENT_MS = 2_000;
/** From then on it may work alone: no sooner than Redis has stopped giving its share to the others. */
export const ALONE_AFTER_MS = 2_500;
/** Admissions that the account's bucket does not pace: logins. */
const UNPACED = 5;

/**
 * What a replica may hold that has lost Redis, of slots admitted after `standing.askedAt`. With all others in the same
 * state, or some of them still with Redis, the sum stays within the ceiling:
 *
 * - S: slots that stood then and may still be held; they run out.
 * - A: what the others may have been given before Redis took this replica for silent: bounded by the bucket and the
 *   window. Each replica counts what it was given itself after its own standing, so only what one of them may have above
 *   its part has to be left: with (C − R − S) / N each, that is A − (C − R − S) / N, if above 0.
 * - R: what is left to replicas that were silent already; they are not among the N.
 * - Redis leaves `share` to it from then on, and takes it as the most it holds.
 *
 * docs/decisions/0006 has the proof.
 */
export function allowance(
  standing: Standing,
  quota: { readonly ceiling: number },
  flightMs: number,
  now: number,
): number {
  const { ceiling } = quota;
  const { share, heardAt, reserved } = standing;
  const replicas = standing.replicas - standing.silent;
  if (replicas <= 0) return 0;
  const stood = heldAt(standing, flightMs, now);
  const free = Math.max(0, ceiling - reserved - stood);
  if (replicas === 1) return Math.min(share, free);
  const over = now > heardAt + SILENT_MS + flightMs + WINDOW_MS + BIN_MS;
  const given = over ? 0 : givenAfter(standing, ceiling, flightMs);
  const each = Math.floor(free / replicas);
  return Math.min(share, given <= each ? each : Math.max(0, Math.floor((free - given) / (replicas - 1))));
}

/** Slots of the standing that may be held at `now`: answered ones until their step, those in flight until they can not be. */
export function heldAt(standing: Standing, flightMs: number, now: number): number {
  let held = now < standing.heardAt + flightMs + WINDOW_MS + BIN_MS ? standing.inFlight : 0;
  for (const [step, count] of standing.steps) if (now < standing.heardAt + (step + 1) * BIN_MS) held += count;
  return held;
}

/** The most that all together can have been admitted between the standing and the silence of one. */
export function givenAfter(standing: Standing, ceiling: number, flightMs: number): number {
  const byBucket = standing.tokens + Math.ceil((ceiling * SILENT_MS) / 60_000) + UNPACED;
  const byWindow = ceiling - heldAt(standing, flightMs, standing.heardAt + SILENT_MS);
  return Math.max(0, Math.min(byBucket, byWindow));
}

/** The same as slots with the milliseconds they are held for, for a Redis that has to be told what others may hold. */
export function feared(
  standing: Standing,
  quota: { readonly ceiling: number },
  flightMs: number,
  now: number,
): [ms: number, slots: number][] {
  const slots: [number, number][] = [];
  for (const [step, count] of standing.steps) {
    const ms = standing.heardAt + (step + 1) * BIN_MS - now;
    if (ms > 0) slots.push([Math.ceil(ms), count]);
  }
  const inFlight = standing.inFlight - standing.ownInFlight;
  const untilMs = standing.heardAt + flightMs + WINDOW_MS + BIN_MS - now;
  if (inFlight > 0 && untilMs > 0) slots.push([Math.ceil(untilMs), inFlight]);
  const given = standing.replicas - standing.silent > 1 ? givenAfter(standing, quota.ceiling, flightMs) : 0;
  if (given > 0 && untilMs + SILENT_MS > 0) slots.push([Math.ceil(untilMs + SILENT_MS), given]);
  return slots;
}
