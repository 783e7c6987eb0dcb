import type { HeaderList } from '../context.ts';

/** The first answer to a write, as it is given again. */
export interface RecordedResponse {
  readonly status: number;
  readonly headers: HeaderList;
  /** Null: it was too large to be kept. */
  readonly body: Buffer | null;
}

/** One request that wants to be the only one with its key. */
export interface KeyedWrite {
  readonly account: string;
  /** Of tenant and key: the key itself is kept nowhere. */
  readonly id: string;
  /** Of everything the request says. */
  readonly fingerprint: string;
  /** Nobody else's. */
  readonly owner: string;
  /** No request is under way longer than this. */
  readonly leaseMs: number;
}

export type BeginResult =
  /** It is the first: to be sent, and ended. */
  | { readonly kind: 'go' }
  /** The first is under way. */
  | { readonly kind: 'conflict' }
  /** The key was used for something else. */
  | { readonly kind: 'mismatch' }
  | { readonly kind: 'replay'; readonly first: RecordedResponse }
  /** The first may have been carried out, and nobody knows: it timed out, or its replica is gone. */
  | { readonly kind: 'unknown' }
  /** What is stored can not be read: it may have been an answer. */
  | { readonly kind: 'broken' }
  /** It can not be known whether it is the first. */
  | { readonly kind: 'unavailable' };

export type WriteOutcome =
  | { readonly kind: 'answered'; readonly first: RecordedResponse }
  /** It may have been carried out. */
  | { readonly kind: 'lost' }
  /** It provably was not: the next one is the first. */
  | { readonly kind: 'released' };

/** Where it is remembered which writes have been begun, and how they ended. Nothing is ever sent twice for a key of one claim. */
export interface IdempotencyStore {
  begin(claim: KeyedWrite): BeginResult | Promise<BeginResult>;
  /** Also where what was claimed has been forgotten since. False: it could not be noted; until it is, the claim reads as under way, and after its lease as unknown. */
  complete(claim: KeyedWrite, ending: WriteOutcome): boolean | Promise<boolean>;
}
