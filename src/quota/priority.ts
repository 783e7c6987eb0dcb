import { parseDictionary } from 'structured-headers';

/** RFC 9218 section 4.1: 0 is the most urgent, 7 the least. */
export const DEFAULT_URGENCY = 3;
const LEAST_URGENCY = 7;

/**
 * Urgency of a request, from its `Priority` (RFC 9218). A header that cannot be read, and a value out of range, count as absent:
 * a client must not be rejected for a hint.
 */
export function urgencyOf(header: string | string[] | undefined): number {
  if (header === undefined) return DEFAULT_URGENCY;
  let value: unknown;
  try {
    value = parseDictionary(String(header)).get('u')?.[0];
  } catch {
    return DEFAULT_URGENCY;
  }
  if (typeof value !== 'number' || !Number.isInteger(value)) return DEFAULT_URGENCY;
  return value >= 0 && value <= LEAST_URGENCY ? value : DEFAULT_URGENCY;
}

/** A waiting request gains a level of urgency in this time. */
const LEVEL_MS = 1_000;
/** A request with an appointment comes before those without, which wait for 30 s at most. */
const APPOINTED_MS = -40_000;

/**
 * Place of a request among the waiting ones of its tenant, relative to its arrival: the lowest is first. As all gain levels alike,
 * the order of two requests never changes: a request is overtaken only by what arrives less than seven seconds after it.
 */
export function rankMsOf(urgency: number, isAppointed: boolean): number {
  return isAppointed ? APPOINTED_MS : urgency * LEVEL_MS;
}
