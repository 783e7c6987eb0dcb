/** A replica as Redis knew it. */
export interface Mate {
  readonly inFlight: number;
  /** Slots that it may hold on its own; absent: it is gone. */
  readonly share?: number;
  /** The snapshot by which it works should it be alone, or an earlier one: its age, and the replicas that were not silent. */
  readonly basis?: { readonly ageMs: number; readonly replicas: number };
}

/** How an account stood when this replica last received it. Times are of this process's monotonic clock. */
export interface AccountSnapshot {
  /** The state that it is of, and its time then. */
  readonly stateId: string;
  readonly asOf: number;
  /** When the request was sent: nothing later is known. */
  readonly askedAt: number;
  readonly receivedAt: number;
  /** The limit that the upstream advertises; null: none is known. */
  readonly advertised: number | null;
  /** Slots that this replica may hold on its own, should it lose Redis. */
  readonly share: number;
  readonly replicas: number;
  /** Slots in flight, of all. */
  readonly inFlight: number;
  /** Slots held though their request has ended. */
  readonly completed: number;
  /** When the completed slots are free: [milliseconds from `receivedAt`, slots that are free by then]. */
  readonly expiries: readonly (readonly [ms: number, slots: number])[];
  /** Tokens in the account's bucket. */
  readonly tokens: number;
  /** All replicas, this one too. */
  readonly mates: Readonly<Record<string, Mate>>;
  /** Slots left to replicas that were silent then, and may hold them on their own; and how many those are. */
  readonly reserved: number;
  readonly silent: number;
  /** Some slots belong to no living replica. */
  readonly orphans: boolean;
  /** A state made anew waits this long for the other replicas. Until then not all slots are in it. */
  readonly closedForMs: number;
  /** A response had come: what the minute before the state had used was known, or over. */
  readonly primed: boolean;
  readonly external: number;
  readonly externalUntil: number;
  readonly cooldownUntil: number;
}

/** As `snapshot` of membership.lua returns it. */
export interface SnapshotReply
  extends Omit<
    AccountSnapshot,
    'asOf' | 'askedAt' | 'receivedAt' | 'advertised' | 'expiries' | 'externalUntil' | 'cooldownUntil'
  > {
  readonly now: number;
  /** -1: none is known. */
  readonly advertised: number;
  /** Absent where there are none. */
  readonly expiries?: AccountSnapshot['expiries'];
  readonly externalForMs: number;
  readonly cooldownMs: number;
}

export function readSnapshot(
  { now, externalForMs, cooldownMs, advertised, expiries = [], ...reply }: SnapshotReply,
  local: Pick<AccountSnapshot, 'askedAt' | 'receivedAt'>,
): AccountSnapshot {
  const { receivedAt } = local;
  return {
    ...reply,
    ...local,
    asOf: now,
    expiries,
    advertised: advertised < 0 ? null : advertised,
    externalUntil: receivedAt + externalForMs,
    // In whole milliseconds, as the account counts: the cooldown would last for the rest of this one otherwise.
    cooldownUntil: Math.floor(receivedAt) + cooldownMs,
  };
}
