import type { Standing } from './standing.ts';

/** What came of asking for a slot. */
export type Reply =
  | { readonly kind: 'admitted'; readonly admittedAt: number; readonly answeredBefore: number; readonly spent: number }
  | {
      readonly kind: 'refused';
      readonly by: 'tenant' | 'account' | 'hold';
      readonly waitMs: number;
      readonly spent: number;
    }
  /** Redis does not know this replica any more, or the state was made anew. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'late' }
  | { readonly kind: 'recovering'; readonly waitMs: number };

/** As `standing()` of roster.lua puts them. */
type StandingReply = [
  status: number,
  now: number,
  share: number,
  replicas: number,
  inFlight: number,
  answered: number,
  tokens: number,
  foreign: number,
  foreignMs: number,
  holdMs: number,
  orphanMs: number,
  closedForMs: number,
  reserved: number,
  silent: number,
  shares: string,
  base: string,
  held: number[],
];

/** How the account stands, Redis' time, and the name of the state. Times of this process are those of its monotonic clock. */
export function readStanding(
  reply: unknown,
  { askedAt, heardAt, ownInFlight }: Pick<Standing, 'askedAt' | 'heardAt' | 'ownInFlight'>,
): { readonly now: number; readonly base: string; readonly standing: Standing } {
  const [
    ,
    now,
    share,
    replicas,
    inFlight,
    answered,
    tokens,
    slotsForeign,
    foreignMs,
    holdMs,
    orphanMs,
    closedForMs,
    reserved,
    silent,
    shares,
    base,
    held,
  ] = reply as StandingReply;
  const steps = new Map<number, number>();
  for (let i = 0; i < held.length; i += 2) steps.set(held[i] as number, held[i + 1] as number);
  const standing: Standing = {
    ...{ askedAt, heardAt, ownInFlight },
    ...{ share, replicas, inFlight, answered, tokens, steps, reserved, silent, closedForMs, slotsForeign },
    shares: JSON.parse(shares) as Record<string, number>,
    orphans: orphanMs > 0,
    foreignUntil: heardAt + foreignMs,
    // In whole milliseconds, as the account counts: it would be held for the rest of this one otherwise.
    heldUntil: Math.floor(heardAt) + holdMs,
  };
  return { now, base, standing };
}
