/** A caller may ask for no longer than this. */
const LONGEST_WAIT_MS = 30_000;

/**
 * `Prefer: wait=N` (RFC 7240 section 4.3): how long the caller is willing to wait, in seconds. Null if it does not say, or
 * says it wrongly: a preference that can not be read is no preference.
 */
export function preferredWaitMs(header: string | string[] | undefined): number | null {
  if (header === undefined) return null;
  for (const preference of String(header).split(',')) {
    const match = /^\s*wait\s*=\s*"?(\d{1,6})"?\s*(?:;.*)?$/i.exec(preference);
    if (match !== null) return Math.min(Number(match[1]) * 1000, LONGEST_WAIT_MS);
  }
  return null;
}
