import { z } from 'zod';
import { isTimeZone } from '../quota/budget-period.ts';
import { doc, id, pattern, whole } from './option-types.ts';

/** The shape of `budgets` of an account and of a tenant. */
const MOST = 1_000_000_000_000;

const budget = z
  .strictObject({
    match: doc(
      z
        .array(pattern(), { error: 'must be a list of methods and paths' })
        .min(1, { error: 'must hold at least one pattern' }),
      {
        description:
          'Requests that count, as in `routes`: those that are sent, once for each attempt. Hits, coalesced and replayed responses are free.',
      },
    ),
    limit: doc(whole(1, MOST), {
      description:
        'Most requests in a period. At the limit matching requests get 429 `budget_exhausted` until the reset. An attempt counts when it is sent; one that provably was not sent is refunded.',
      unit: 'requests per period',
    }),
    per: doc(z.enum(['day', 'month'], { error: 'must be day or month' }).default('month'), {
      description:
        'Length of a period. Both are counted, so that a change finds what was used of the new period before it.',
    }),
    timeZone: doc(
      z
        .string({ error: 'must be the name of a time zone' })
        .refine(isTimeZone, { error: 'must be a name of the IANA time zone database, such as UTC or Europe/London' })
        .default('UTC'),
      {
        description:
          'Time zone of the midnight at which a period begins. After a change the count of the period with the same date goes on.',
      },
    ),
    warnAt: doc(whole(1, 100).default(80), {
      description: 'Per cent of the limit, of the account or of a tenant, from which an alert is due.',
      unit: 'per cent',
    }),
  })
  .transform(({ warnAt, ...options }) => ({ ...options, warnAtPercent: warnAt }));

export const accountBudgets = doc(
  z
    .record(id(), budget, { error: 'must be a map of budgets' })
    .transform((budgets) => new Map(Object.entries(budgets)))
    .prefault({}),
  { description: 'Most requests of a kind in a day or a month, by name: the operations of a contract, for example.' },
);

export const tenantBudgets = doc(
  z
    .record(id(), whole(0, MOST), { error: 'must be a map of numbers' })
    .transform((budgets) => new Map(Object.entries(budgets)))
    .prefault({}),
  {
    description:
      'By the name of a budget of its account: most requests of this tenant in a period. Default: what the account has. 0: none.',
  },
);

/** Left out of the settings where there are none. */
export function someBudgets<T>(budgets: ReadonlyMap<string, T>): { budgets?: ReadonlyMap<string, T> } {
  return budgets.size > 0 ? { budgets } : {};
}
