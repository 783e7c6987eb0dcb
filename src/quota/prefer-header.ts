const MAX_WAIT_MS = 30_000;

/**
 * `Prefer: wait=N` (RFC 7240 section 4.3): how long the caller accepts to wait, in seconds. Null if the header is absent or
 * does not say so in a readable way: a preference may be ignored.
 */
export function preferredWaitMs(header: string | string[] | undefined): number | null {
  if (header === undefined) return null;
  for (const preference of String(header).split(',')) {
    const match = /^\s*wait\s*=\s*"?(\d{1,6})"?\s*(?:;.*)?$/i.exec(preference);
    if (match !== null) return Math.min(Number(match[1]) * 1000, MAX_WAIT_MS);
  }
  return null;
}
