const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;
const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZE = /^(\d+(?:\.\d+)?)(B|KiB|MiB|GiB)$/;
const SIZE_BYTES: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** `250ms 30s 5m 24h 180d` → milliseconds; null if it is none. */
export function parseDuration(text: string): number | null {
  return parse(text, DURATION, DURATION_MS);
}

/** `512B 64KiB 10MiB 1GiB` → bytes; null if it is none. */
export function parseSize(text: string): number | null {
  return parse(text, SIZE, SIZE_BYTES);
}

function parse(text: string, pattern: RegExp, units: Readonly<Record<string, number>>): number | null {
  const match = pattern.exec(text.trim());
  if (match === null) return null;
  const value = Math.round(Number(match[1]) * (units[match[2] as string] as number));
  return Number.isSafeInteger(value) ? value : null;
}
