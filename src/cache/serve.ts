import { type Answer, answer, type CacheNote, type HeaderList } from '../exchange.ts';
import { isNotModified, notModifiedHeaders } from './entity.ts';
import type { Cacheable, CacheOptions } from './options.ts';
import { type Forward, forwarded, type StaleReason } from './status.ts';
import { ageOf, type StoredAnswer } from './store.ts';

/** Answers from what is stored. */
export interface Serve {
  hit(exchange: Cacheable, found: StoredAnswer): Answer;
  stale(exchange: Cacheable, found: StoredAnswer, reason: StaleReason): Answer;
  /** For one who waited for another's request. */
  collapsed(exchange: Cacheable, found: StoredAnswer, why: Forward): Answer;
  /** For one whose request upstream has confirmed what is stored, or brought it a moment ago. */
  forwarded(exchange: Cacheable, found: StoredAnswer, why: Forward, stored: boolean, status: number | null): Answer;
}

export function createServe({ clock, meter }: Pick<CacheOptions, 'clock' | 'meter'>): Serve {
  const saved = (exchange: Cacheable, note: CacheNote & ('hit' | 'stale' | 'collapsed')): void => {
    exchange.notes.cache = note;
    meter.callSaved(exchange.notes.tenant, note);
  };
  const render = (exchange: Cacheable, found: StoredAnswer, ageMs: number, status: string): Answer => {
    const unchanged = isNotModified(exchange.headers, found);
    // A list of its own for each answer: stages further out add fields of the tenant to it.
    const headers: HeaderList = unchanged ? notModifiedHeaders(found.headers) : found.headers.slice();
    if (found.ownTag !== null) headers.push('ETag', found.ownTag);
    // Age is rounded down and ttl up, so that together they are the lifetime.
    headers.push('Age', String(Math.floor(ageMs / 1000)), 'Cache-Status', status);
    if (unchanged) return answer(304, headers, null);
    // A 204 has neither a body nor a length (RFC 9110 section 8.6): an empty Buffer would get one. A HEAD has the length.
    return answer(found.status, headers, found.status === 204 ? null : found.body);
  };
  const ttl = (found: StoredAnswer, ageMs: number): number => Math.ceil((found.freshForMs - ageMs) / 1000);

  return {
    hit(exchange, found) {
      saved(exchange, 'hit');
      const ageMs = ageOf(found, clock.monotonic());
      return render(exchange, found, ageMs, `patchgate; hit; ttl=${ttl(found, ageMs)}`);
    },
    stale(exchange, found, reason) {
      saved(exchange, 'stale');
      const ageMs = ageOf(found, clock.monotonic());
      // -0 is no number of a structured field.
      return render(exchange, found, ageMs, `patchgate; hit; ttl=${ttl(found, ageMs) || 0}; detail=${reason}`);
    },
    collapsed(exchange, found, why) {
      saved(exchange, 'collapsed');
      const ageMs = ageOf(found, clock.monotonic());
      return render(exchange, found, ageMs, `patchgate; fwd=${why}; collapsed; ttl=${ttl(found, ageMs) || 0}`);
    },
    forwarded(exchange, found, why, stored, status) {
      const ageMs = ageOf(found, clock.monotonic());
      const how = forwarded(why, stored);
      return render(exchange, found, ageMs, status === null ? how : `${how}; fwd-status=${status}`);
    },
  };
}
