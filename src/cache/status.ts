import type { ProxyResponse } from '../context.ts';

/** RFC 9211 section 2.2: why a request went on. */
export type ForwardReason = 'miss' | 'stale' | 'request' | 'bypass' | 'method';

/** An answer that came from upstream, with the Cache-Status that says why it had to. */
export function withCacheStatus(arrived: ProxyResponse, why: ForwardReason, stored: boolean): ProxyResponse {
  arrived.headers.push('Cache-Status', forwardStatus(why, stored));
  return arrived;
}

export function forwardStatus(why: ForwardReason, stored: boolean): string {
  return stored ? `patchgate; fwd=${why}; stored` : `patchgate; fwd=${why}`;
}

/** Which of its stale windows an answer is served by. */
export type StaleReason = 'stale-while-revalidate' | 'stale-if-error' | 'stale-if-throttled';
