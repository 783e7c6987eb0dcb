/** Distribution of the time, in milliseconds, that a request or response travels. */
export type Latency =
  | { readonly kind: 'fixed'; readonly ms: number }
  | { readonly kind: 'uniform'; readonly minMs: number; readonly maxMs: number }
  /** Exponential above a minimum: most are short, a few are long. */
  | { readonly kind: 'exponential'; readonly minMs: number; readonly meanMs: number; readonly maxMs: number }
  /** A long tail, as measured networks have; with `sigma` 0.5 the 99th percentile is about 3 times the median. */
  | { readonly kind: 'lognormal'; readonly medianMs: number; readonly sigma: number; readonly maxMs: number };

const FIELDS: Readonly<Record<Latency['kind'], readonly string[]>> = {
  fixed: ['ms'],
  uniform: ['minMs', 'maxMs'],
  exponential: ['minMs', 'meanMs', 'maxMs'],
  lognormal: ['medianMs', 'sigma', 'maxMs'],
};

/** Describes the error in a latency that came from outside; null if it is valid. */
export function latencyProblem(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return 'must be a latency such as {"kind":"fixed","ms":20}';
  const given = value as Record<string, unknown>;
  const kind = String(given['kind']);
  if (!Object.hasOwn(FIELDS, kind)) return `kind must be one of ${Object.keys(FIELDS).join(', ')}`;
  for (const field of FIELDS[kind as Latency['kind']]) {
    const number = given[field];
    if (typeof number !== 'number' || !Number.isFinite(number) || number < 0) return `${field} must be a number from 0`;
  }
  return null;
}

/** Milliseconds, never negative. */
export function draw(latency: Latency, random: () => number): number {
  switch (latency.kind) {
    case 'fixed':
      return latency.ms;
    case 'uniform':
      return latency.minMs + random() * Math.max(0, latency.maxMs - latency.minMs);
    case 'exponential': {
      const above = -Math.log(1 - random()) * Math.max(0, latency.meanMs - latency.minMs);
      return Math.min(latency.maxMs, latency.minMs + above);
    }
    case 'lognormal':
      return Math.min(latency.maxMs, latency.medianMs * Math.exp(latency.sigma * normal(random)));
  }
}

/** Box–Muller; `1 - random()` avoids the logarithm of 0. */
function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** mulberry32: a seeded generator that gives the same numbers on every machine. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
