import { matchesMethod, matchesPath, type Pattern } from '../routing/pattern.ts';

/** First match wins. */
export type CacheRule =
  | { readonly match: Pattern; readonly store: false }
  | ({
      readonly match: Pattern;
      readonly store: true;
      readonly ttlMs: number;
      /** Request fields that part the answers, besides those that their Vary names. Lower case. */
      readonly vary: readonly string[];
      /** Names under which an operator can purge what was stored by this rule. */
      readonly tags: readonly string[];
    } & StaleWindows);

/** How long after its freshness an answer may still be served, and when. */
export interface StaleWindows {
  /** At once, while it is fetched anew. */
  readonly staleWhileRevalidateMs: number;
  /** When upstream fails. */
  readonly staleIfErrorMs: number;
  /** When there is no slot to ask upstream. */
  readonly staleIfThrottledMs: number;
}

export const NEVER_STALE: StaleWindows = { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, staleIfThrottledMs: 0 };

/** HEAD is served from what GET has stored, so both follow the rule for GET. */
export function ruleFor(rules: readonly CacheRule[], segments: readonly string[]): CacheRule | null {
  for (const rule of rules) {
    if (matchesMethod(rule.match, 'GET') && matchesPath(rule.match.segments, segments)) return rule;
  }
  return null;
}
