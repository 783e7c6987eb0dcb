import { type Answer, answer } from '../exchange.ts';

/** RFC 9211 section 2.2: why a request went on. */
export type Forward = 'miss' | 'stale' | 'request' | 'bypass' | 'method';

/** An answer that came from upstream, with the Cache-Status that says why it had to. */
export function marked(arrived: Answer, why: Forward, stored: boolean): Answer {
  const status = stored ? `patchgate; fwd=${why}; stored` : `patchgate; fwd=${why}`;
  return answer(arrived.status, [...arrived.headers, 'Cache-Status', status], arrived.body);
}
