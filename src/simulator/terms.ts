/** Operations in a calendar month. All tiers have the same 240 API requests a minute (subscription tier limits). */
export const TIERS = { growth: 150_000, professional: 400_000, enterprise: 1_000_000 } as const;

/** Runs at the same time. */
export const CONCURRENT_RUNS: Readonly<Record<Tier, number>> = { growth: 10, professional: 20, enterprise: 30 };

export type Tier = keyof typeof TIERS;

/** The terms of one account. Default, also for null: those of the switches. */
export interface Terms {
  readonly tier?: Tier | null;
  /** Requests in a window. */
  readonly limit?: number | null;
  /** Operations in a calendar month, in place of those of the tier. */
  readonly operations?: number | null;
}

/** Describes the error in a value; null if it is valid. */
type Check = (value: unknown) => string | null;

export function isTier(value: unknown): value is Tier {
  return typeof value === 'string' && Object.hasOwn(TIERS, value);
}

export const tierProblem: Check = (value) => (isTier(value) ? null : `must be one of ${Object.keys(TIERS).join(', ')}`);
export const limitProblem: Check = (value) => wholeProblem(value, 1);
export const operationsProblem: Check = (value) => wholeProblem(value, 0);

const CHECKS: Readonly<Record<keyof Terms, Check>> = {
  tier: tierProblem,
  limit: limitProblem,
  operations: operationsProblem,
};

/** Throws a TypeError that names the wrong term, after `prefix`. */
export function checkedTerms(given: object, prefix = ''): Terms {
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(CHECKS, name)) {
      throw new TypeError(`there is no term "${name}"; known: ${Object.keys(CHECKS).join(', ')}`);
    }
    const problem = value === null || value === undefined ? null : CHECKS[name as keyof Terms](value);
    if (problem !== null) throw new TypeError(`${prefix}${name} ${problem}`);
  }
  return given;
}

function wholeProblem(value: unknown, least: number): string | null {
  return Number.isSafeInteger(value) && Number(value) >= least ? null : `must be a whole number from ${least}`;
}
