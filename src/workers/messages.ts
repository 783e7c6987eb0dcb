import type { Packed } from '../config/packed.ts';
import type { Purge } from '../edge/purge.ts';
import type { StatusDocument } from '../edge/status-document.ts';
import type { Purged } from '../gateway/purge.ts';
import type { StatusPart } from '../gateway/status.ts';

/** What the primary tells a worker. Settings travel with their secrets, between two processes of one user, and are written nowhere. */
export type ToWorker =
  /** What the gateway was opened with: options that only a restart can change stay as they were then, for a later worker too. */
  | { readonly kind: 'open'; readonly id: number; readonly of: number; readonly opened: Packed; readonly now: Packed }
  /** With the socket, unless its caller has left in the meantime. */
  | { readonly kind: 'connection' }
  | { readonly kind: 'ask'; readonly number: number; readonly question: Question }
  /** From now on answers ask their callers to go elsewhere; connections are still handed over. */
  | { readonly kind: 'drain'; readonly signal: string }
  /** The last connection was handed over. */
  | { readonly kind: 'leave' };

export type FromWorker =
  /** It listens: what is sent before that is lost. */
  | { readonly kind: 'hello' }
  | { readonly kind: 'open' }
  | { readonly kind: 'took' }
  | { readonly kind: 'answer'; readonly number: number; readonly answer: unknown }
  /** Nothing is in flight any more; with the metrics at the end. */
  | { readonly kind: 'drained'; readonly metrics: string };

export type Question =
  | { readonly about: 'metrics' }
  | { readonly about: 'status' }
  /** With as many tenants at most. */
  | { readonly about: 'standing'; readonly tenants: number }
  | { readonly about: 'purge'; readonly purge: Purge }
  | { readonly about: 'reload'; readonly settings: Packed };

export interface Answers {
  readonly metrics: string;
  readonly status: StatusDocument;
  readonly standing: StatusPart;
  readonly purge: Purged;
  readonly reload: true;
}
