import type { HeaderList } from '../context.ts';

/** The first response to a write, as it is replayed. */
export interface RecordedResponse {
  readonly status: number;
  readonly headers: HeaderList;
  /** Null: it was too large to be stored, or there was no room for it. */
  readonly body: Buffer | null;
}

/** A write with an Idempotency-Key. */
export interface KeyedWrite {
  readonly account: string;
  /** Digest of the tenant, whose responses have a bounded share of the memory. */
  readonly tenant: string;
  /** Digest of tenant and key: the key itself is stored nowhere. */
  readonly id: string;
  /** Digest of the whole request. */
  readonly fingerprint: string;
  /** Unique to this request: only its owner can complete a record. */
  readonly owner: string;
  /** No write is in progress longer than this. */
  readonly leaseMs: number;
}

export type BeginResult =
  /** It is the first write with this key: send it, then complete it. */
  | { readonly kind: 'first' }
  /** The first write is in progress. */
  | { readonly kind: 'conflict' }
  /** The key was used for another request. */
  | { readonly kind: 'mismatch' }
  | { readonly kind: 'replay'; readonly response: RecordedResponse }
  /** The first write may have been carried out: it timed out, or its replica stopped. */
  | { readonly kind: 'unknown' }
  /** The record cannot be read: the first write may have been carried out. */
  | { readonly kind: 'broken' }
  /** The store does not respond. */
  | { readonly kind: 'unavailable' };

export type WriteOutcome =
  | { readonly kind: 'completed'; readonly response: RecordedResponse }
  /** It may have been carried out. */
  | { readonly kind: 'unknown' }
  /** It provably was not carried out: the next write with this key is the first. */
  | { readonly kind: 'released' };

/** Records which keyed writes have begun, and their outcomes, so that none is sent twice. */
export interface IdempotencyStore {
  /** Its owner may begin a write again, as long as it has not sent it: the write is still the first. */
  begin(write: KeyedWrite): BeginResult | Promise<BeginResult>;
  /**
   * Works also for a record that the store has lost. False: the outcome could not be stored. Until it is, the write counts as in
   * progress, and after its lease as unknown.
   */
  complete(write: KeyedWrite, outcome: WriteOutcome): boolean | Promise<boolean>;
}
