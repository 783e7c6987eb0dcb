import type { ClientDisconnect } from '../context.ts';
import type { Span } from '../ports.ts';
import type { ExhaustedBudget } from './budgets.ts';
import type { RejectedBy, Slot } from './quota-store.ts';

/** `waitedMs` is 0 for a request that did not have to wait. */
export type Admission =
  | { readonly kind: 'admitted'; readonly slot: Slot; readonly waitedMs: number }
  | {
      readonly kind: 'rejected';
      readonly by: RejectedBy;
      readonly retryAfterMs: number;
      /** It is expected then: see {@link RejectedDecision}. */
      readonly appointment?: boolean | undefined;
      /** For `budget`. */
      readonly budget?: ExhaustedBudget | undefined;
      readonly waitedMs: number;
      /** It waited in vain. Otherwise a wait was of no use from the start, or because of a cooldown meanwhile. */
      readonly timedOut: boolean;
    }
  | { readonly kind: 'disconnected' }
  /** The gateway drains. */
  | { readonly kind: 'closed' }
  /** Its tenant may not call any more. */
  | { readonly kind: 'dismissed'; readonly status: Exclude<TenantStatus, 'active'> };

/** By the configuration in force now, which may not be the one under which the request was authenticated. */
export type TenantStatus = 'active' | 'removed' | 'disabled';

export interface AdmissionRequest {
  readonly account: string;
  readonly tenant: string;
  readonly maxWaitMs: number;
  /** See {@link SlotRequest}. */
  readonly urgency?: number;
  /** No caller waits for it: see {@link SlotRequest}. */
  readonly background?: boolean;
  /** See {@link SlotRequest}. Default: true. */
  readonly books?: boolean;
  /** See {@link SlotRequest}. */
  readonly budgets?: readonly string[] | undefined;
  readonly disconnect: ClientDisconnect;
  /** Called if it is neither admitted nor rejected at once. */
  readonly onWait?: () => void;
  readonly trace?: Span | null;
}
