import { z } from 'zod';
import { isTimeZone } from '../quota/budget-period.ts';
import { isOwnHeader } from '../upstream/headers.ts';
import { doc, flag, headerName, headerSecret, httpUrl, id, pattern, secretText, text, whole } from './option-types.ts';

/** An account in gateway.yaml: its quota, budgets and credentials. */

const credentialId = () => doc(id(), { description: 'Name of the credential in logs and metrics.' });

const apiKey = z
  .strictObject({
    id: credentialId(),
    apiKey: doc(headerSecret(), { description: 'A Patchworks API key; sent verbatim as `Authorization`.' }),
  })
  .transform(({ id, apiKey }) => ({ kind: 'apiKey' as const, id, apiKey }));

const login = z
  .strictObject({
    id: credentialId(),
    login: z.strictObject({
      url: doc(httpUrl(), {
        description: 'URL of the login, such as https://app.wearepatchworks.com/fabric/api/login.',
      }),
      username: doc(text(), { description: "User for the login. The token has this user's rights." }),
      password: doc(secretText(), { description: 'Its password.' }),
      usernameField: doc(
        z
          .string({ error: 'must be a name' })
          .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'must be the name of a JSON field' })
          .default('username'),
        {
          description: 'JSON field of the username; `email` for the older form of the login.',
        },
      ),
    }),
  })
  .transform(({ id, login }) => ({ kind: 'login' as const, id, ...login }));

const header = z
  .strictObject({
    id: credentialId(),
    header: z.strictObject({
      name: doc(
        headerName().refine((name) => !isOwnHeader(name), {
          error: 'must be another header: the gateway sets this one itself',
        }),
        {
          description:
            "Header that carries the secret, such as `patchworks-signature` for a callback. A caller's own header of this name, in any spelling, is dropped on routes that use the credential.",
        },
      ),
      value: doc(headerSecret(), { description: 'The secret; sent verbatim.' }),
    }),
  })
  .transform(({ id, header }) => ({ kind: 'header' as const, id, ...header }));

const query = z
  .strictObject({
    id: credentialId(),
    query: z.strictObject({
      name: doc(
        z.string({ error: 'must be the name of a parameter' }).regex(/^[A-Za-z0-9_.~-]+$/, {
          error: 'must be the name of a parameter: letters, digits, and any of _ . ~ -',
        }),
        {
          description:
            'Query parameter that carries the secret, such as `patchworks_signature` for a webhook; added behind the query of the caller. A caller that sends one of this name gets 400. Prefer `header` where the upstream accepts it: a URL stands in the logs of proxies.',
        },
      ),
      value: doc(secretText(), { description: 'The secret, as it is before it is escaped for the URL.' }),
    }),
  })
  .transform(({ id, query }) => ({ kind: 'query' as const, id, ...query }));

const credentialList = doc(
  z
    .array(z.union([apiKey, login, header, query]), { error: 'must be a list of credentials' })
    .min(1, { error: 'must hold at least one credential' }),
  {
    description:
      'Credentials in order of preference: the first is used, and the next one after a 401 of Patchworks, unless the route names one. Each has an `id` and one of `apiKey`, `login`, `header` and `query`.',
  },
);

export const MOST_OF_A_BUDGET = 1_000_000_000_000;

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
    limit: doc(whole(1, MOST_OF_A_BUDGET), {
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

/** Left out of the settings where there are none. */
export const budgetsByName = <T extends z.ZodType>(of: T, error: string) =>
  z.record(id(), of, { error }).transform((input): { budgets?: ReadonlyMap<string, z.output<T>> } => {
    const budgets = new Map(Object.entries(input));
    return budgets.size > 0 ? { budgets } : {};
  });

export const accountSchema = z
  .strictObject({
    quota: z
      .strictObject({
        limit: doc(whole(2, 10_000_000).default(240), {
          description:
            'Requests that Patchworks allows this account in 60 s. If it is set too high, Patchworks answers 429.',
          unit: 'requests per 60 s',
        }),
        ceiling: doc(whole(1, 10_000_000).default(235), {
          description:
            'Most requests that the gateway sends in any 60 s. It must be below `limit`: the difference is for people in the dashboard.',
          unit: 'requests per 60 s',
        }),
        burst: doc(whole(1, 10_000_000).default(60), {
          description:
            'Requests that may be sent at once after a pause. The bucket is refilled at `ceiling` a minute while no request waits. A burst never takes more than about half of the ceiling at once: the rest is for the minute after it.',
          unit: 'requests',
        }),
        adoptLimit: doc(flag().default(true), {
          description:
            'true: if `X-RateLimit-Limit` is below `limit` in three responses in a row, `ceiling`, `burst` and the reserved slots are lowered in proportion, on all replicas, until it rises again. In the minute of the change slots of the old ceiling are still held, so that little or nothing is sent. false: another limit is only reported, and `X-RateLimit-Remaining` beside it is ignored; if the account really has it, Patchworks answers 429.',
        }),
        coldStart: doc(z.enum(['trust', 'wait'], { error: 'must be trust or wait' }).default('trust'), {
          description:
            'What a gateway does that knows nothing of the minute before it (embedded state after a restart, or Redis and all replicas lost) if the first response has no `X-RateLimit-Remaining`. `trust`: it takes the account for idle, so the ceiling is guaranteed from a minute after the start on. `wait`: it sends nothing more until that minute is over. With the header the gateway knows, and does neither.',
        }),
      })
      // Checked here, not in validate.ts, so that it is reported together with all other errors of the file.
      .superRefine(({ limit, ceiling }, context) => {
        if (ceiling < limit) return;
        const message = `must be below the limit (${limit}): at the limit Patchworks answers 429`;
        context.addIssue({ code: 'custom', path: ['ceiling'], message });
      })
      .prefault({}),
    budgets: doc(budgetsByName(budget, 'must be a map of budgets').prefault({}), {
      description: 'Most requests of a kind in a day or a month, by name: the operations of a contract, for example.',
    }),
    credentials: credentialList,
  })
  .transform(({ quota, budgets, credentials }) => ({ quota: { ...quota, ...budgets }, credentials }));
