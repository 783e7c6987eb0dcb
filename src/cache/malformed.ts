import { type Directives, deltaSeconds, parseDirectives } from './cache-control.ts';
import { parseHttpDate } from './http-date.ts';
import type { Fields } from './stored-headers.ts';

const DATES = ['date', 'expires', 'last-modified'] as const;
/** "Already expired", as half the web writes it: no date, but no fault either (RFC 9111 section 5.3). */
const EXPIRED = /^(?:0|-1)$/;
const LIFETIMES = ['max-age', 's-maxage', 'stale-while-revalidate', 'stale-if-error'];

/**
 * Fields about freshness that can not be read, or that contradict themselves. None of them is an error to the caller; the
 * answer is as old, or as fresh, as the rest of it says. What upstream gets wrong is counted, so that somebody can see why
 * nothing is stored.
 */
export function invalidFreshnessHeaders(fields: Fields): readonly string[] {
  const control = fields.get('cache-control');
  const age = fields.get('age');
  const dates = DATES.filter((name) => {
    const value = fields.get(name);
    return value !== undefined && parseHttpDate(value) === null && !(name === 'expires' && EXPIRED.test(value.trim()));
  });
  return [
    ...(control !== undefined && !isSound(parseDirectives(control)) ? ['cache-control'] : []),
    ...(age !== undefined && deltaSeconds(age.trim()) === null ? ['age'] : []),
    ...dates,
  ];
}

function isSound(directives: Directives): boolean {
  return LIFETIMES.every((name) => {
    const value = directives.get(name);
    return value === undefined || (value !== null && deltaSeconds(value) !== null);
  });
}
