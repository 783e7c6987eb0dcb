import { z } from 'zod';
import { budgetsByName, MOST_OF_A_BUDGET } from './account-schema.ts';
import { tenantIdentity } from './identity-schema.ts';
import { doc, duration, flag, id, narrowing, optional, pattern, whole } from './option-types.ts';

/** The shape of tenants.yaml, and of `tenants` in gateway.yaml. */
const tenantQuota = z
  .strictObject({
    rate: doc(
      optional(z.number({ error: 'must be a number above 0' }).positive({ error: 'must be above 0' }).max(10_000_000)),
      {
        description: 'Requests a minute of this tenant. Default: the ceiling of the account.',
        unit: 'requests per minute',
      },
    ),
    burst: doc(optional(whole(1, 10_000_000)), {
      description:
        'Requests that it may send at once after a pause. Default: 20; without a `rate`, the `burst` of its account, so that a tenant alone waits only where the account makes it wait.',
      unit: 'requests',
    }),
    weight: doc(
      z.number({ error: 'must be a number above 0' }).positive({ error: 'must be above 0' }).max(1000).default(1),
      {
        description:
          'Its share when tenants compete for slots: twice the weight means twice the slots. Unused shares are lent to others.',
      },
    ),
    reserved: doc(whole(0, 10_000_000).default(0), {
      description:
        'Requests a minute that are kept for it, used or not; other tenants never get them. The sum over an account is at most its ceiling.',
      unit: 'requests per minute',
    }),
    maxWait: doc(duration(0, 30_000).prefault('5s'), {
      description:
        'Longest wait for a slot before a 429. A caller that disconnects has spent nothing. A request sets less or more with `Prefer: wait=N` (seconds, at most 30). `0s`: reject at once.',
    }),
    maxInFlight: doc(optional(whole(1, 1_024)), {
      description:
        "Requests of this tenant that one replica has under way at each upstream, up to the last byte of the response. Default: half of the upstream's `maxInFlight`, so that slow responses of one tenant leave permits to others. More than that lets it take the last permit; then others wait, or get 429 `queue_timeout`.",
      unit: 'requests',
    }),
  })
  .prefault({});

const tenantKey = z
  .strictObject({
    id: doc(id(), { description: 'Name of the key in logs and metrics, such as the month of its creation.' }),
    sha256: doc(
      z
        .string({ error: 'must be 64 hexadecimal digits' })
        .regex(/^[0-9a-fA-F]{64}$/, { error: ({ input }) => digestRule(input) }),
      { description: 'SHA-256 of the key, in hex. The key itself is nowhere in the configuration.' },
    ),
    expires: doc(
      optional(
        z.iso.datetime({ offset: true, error: 'must be a date and time with zone, such as 2027-05-31T00:00:00Z' }),
      ),
      { description: 'Time from which the key is rejected. Default: never.' },
    ),
    ...narrowing('key'),
  })
  .transform(({ sha256, expires, ...options }) => ({
    ...options,
    sha256: sha256.toLowerCase(),
    expiresAtMs: expires === null ? null : Date.parse(expires),
  }));

function digestRule(input: unknown): string {
  const rule = 'must be 64 hexadecimal digits: `patchgate key hash` makes them';
  const isKey = String(input).startsWith('pgk_');
  return isKey ? `${rule}. This looks like the key itself: revoke it if others can read this file` : rule;
}

/** A tenant without a rate has no rate limit of its own: its account's burst is its own. */
const BURST_WITH_RATE = 20;

const tenantSchema = z
  .strictObject({
    account: doc(optional(id()), {
      description: 'Account of the tenant. Required, or `accounts`, only if there are several accounts.',
    }),
    accounts: doc(optional(z.array(id()).min(1, { error: 'must name at least one account' })), {
      description:
        'Several accounts of the tenant, in place of `account`: a request belongs to the account of the first route that matches it and leads to one of them. `quota` holds in each account on its own, so each keeps its own slots, waits and cooldown. A route to another account gets `route_forbidden`.',
    }),
    disabled: doc(flag().default(false), {
      description: 'true: all its keys and identities are rejected with `tenant_disabled`.',
    }),
    keys: doc(z.array(tenantKey).default([]), {
      description: 'Valid keys. To rotate, add the new key, hand it over, then remove the old one.',
    }),
    identities: doc(z.array(tenantIdentity).default([]), {
      description: 'Callers without a key: by a token of an issuer, or by a client certificate. See identities.md.',
    }),
    allow: doc(optional(z.array(pattern())), {
      description:
        'Permissions. Default: everything but logins, API keys, users and `companies/*/manage`, which must be named literally.',
    }),
    quota: tenantQuota,
    enforcement: doc(z.enum(['enforce', 'observe'], { error: 'must be enforce or observe' }).default('enforce'), {
      description:
        'observe: `quota.rate`, `quota.burst`, `budgets` and `allow` are evaluated on each request, counted (`would_reject_total`) and logged (`wouldReject`), and reject nothing. The denylist, keys and identities with their `allow` and `cidrs`, waits for the account and `maxInFlight` hold as always. For a new tenant, or before a limit is tightened.',
    }),
    budgets: doc(budgetsByName(whole(0, MOST_OF_A_BUDGET), 'must be a map of numbers').prefault({}), {
      description:
        'By the name of a budget of its account: most requests of this tenant in a period. Default: what the account has. 0: none.',
    }),
  })
  .transform(({ quota: { rate, burst, maxWait, maxInFlight, ...quota }, budgets, ...options }) => ({
    quota: {
      ...{ rate, burst: burst ?? (rate === null ? null : BURST_WITH_RATE), ...quota, maxWaitMs: maxWait },
      ...budgets,
    },
    maxInFlight,
    ...options,
  }));

export const tenantMap = z.record(id(), tenantSchema, { error: 'must be a map of tenants' });
export const tenantsFileSchema = z.strictObject({
  tenants: doc(tenantMap, { description: 'Tenants, by name, with their keys, permissions and quotas.' }),
});

export type TenantInput = z.output<typeof tenantSchema>;
