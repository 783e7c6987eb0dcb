import { type CacheResult, type HeaderList, type ProxyResponse, respond } from '../context.ts';
import type { CacheableContext, CacheOptions } from './options.ts';
import { type ForwardReason, forwardStatus, type StaleReason } from './status.ts';
import { ageOf, type StoredResponse } from './store.ts';
import { isNotModified, notModifiedHeaders } from './validators.ts';

/** Answers from what is stored. */
export interface CachedResponses {
  hit(context: CacheableContext, found: StoredResponse): ProxyResponse;
  stale(context: CacheableContext, found: StoredResponse, reason: StaleReason): ProxyResponse;
  /** For one who waited for another's request. */
  collapsed(context: CacheableContext, found: StoredResponse, why: ForwardReason): ProxyResponse;
  /** For one whose request upstream has confirmed what is stored, or brought it a moment ago. */
  forwarded(
    context: CacheableContext,
    found: StoredResponse,
    why: ForwardReason,
    stored: boolean,
    status: number | null,
  ): ProxyResponse;
}

export function createCachedResponses({ clock, meter }: Pick<CacheOptions, 'clock' | 'meter'>): CachedResponses {
  const saved = (context: CacheableContext, note: CacheResult & ('hit' | 'stale' | 'collapsed')): void => {
    context.record.cache = note;
    meter.requestAvoided(context.record.tenant, note);
  };
  const render = (context: CacheableContext, found: StoredResponse, ageMs: number, status: string): ProxyResponse => {
    const unchanged = isNotModified(context.headers, found);
    // A list of its own for each answer: stages further out add fields of the tenant to it.
    const headers: HeaderList = unchanged ? notModifiedHeaders(found.headers) : found.headers.slice();
    if (found.generatedEtag !== null) headers.push('ETag', found.generatedEtag);
    // Age is rounded down and ttl up, so that together they are the lifetime.
    headers.push('Age', String(Math.floor(ageMs / 1000)), 'Cache-Status', status);
    if (unchanged) return respond(304, headers, null);
    // A 204 has neither a body nor a length (RFC 9110 section 8.6): an empty Buffer would get one. A HEAD has the length.
    return respond(found.status, headers, found.status === 204 ? null : found.body);
  };
  const ttl = (found: StoredResponse, ageMs: number): number => Math.ceil((found.freshForMs - ageMs) / 1000);

  return {
    hit(context, found) {
      saved(context, 'hit');
      const ageMs = ageOf(found, clock.monotonic());
      return render(context, found, ageMs, `patchgate; hit; ttl=${ttl(found, ageMs)}`);
    },
    stale(context, found, reason) {
      saved(context, 'stale');
      const ageMs = ageOf(found, clock.monotonic());
      // -0 is no number of a structured field.
      return render(context, found, ageMs, `patchgate; hit; ttl=${ttl(found, ageMs) || 0}; detail=${reason}`);
    },
    collapsed(context, found, why) {
      saved(context, 'collapsed');
      const ageMs = ageOf(found, clock.monotonic());
      return render(context, found, ageMs, `patchgate; fwd=${why}; collapsed; ttl=${ttl(found, ageMs) || 0}`);
    },
    forwarded(context, found, why, stored, status) {
      const ageMs = ageOf(found, clock.monotonic());
      const how = forwardStatus(why, stored);
      return render(context, found, ageMs, status === null ? how : `${how}; fwd-status=${status}`);
    },
  };
}
