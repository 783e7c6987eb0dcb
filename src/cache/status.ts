import type { Answer } from '../exchange.ts';

/** RFC 9211 section 2.2: why a request went on. */
export type Forward = 'miss' | 'stale' | 'request' | 'bypass' | 'method';

/** An answer that came from upstream, with the Cache-Status that says why it had to. */
export function marked(arrived: Answer, why: Forward, stored: boolean): Answer {
  arrived.headers.push('Cache-Status', forwarded(why, stored));
  return arrived;
}

export function forwarded(why: Forward, stored: boolean): string {
  return stored ? `patchgate; fwd=${why}; stored` : `patchgate; fwd=${why}`;
}

/** Which of its stale windows an answer is served by. */
export type StaleReason = 'stale-while-revalidate' | 'stale-if-error' | 'stale-if-throttled';
