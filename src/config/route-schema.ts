import { z } from 'zod';
import { canonicalise } from '../routing/canonical-path.ts';
import { doc, duration, flag, id, optional, origin, pattern, whole } from './option-types.ts';

/** Upstreams in gateway.yaml, and the routes that lead to them. */
const HOUR = 3_600_000;

const retries = z
  .strictObject({
    max: doc(whole(0, 2).default(2), {
      description:
        'Most retries of a request. GET and HEAD are retried without a connection, after one that was lost before the response, and after 502, 503 or 504; any other method only if no byte can have left. Each retry needs a slot of its own, all of them together stay within `timeout`, and without a slot the first failure is returned. 0 turns retries off.',
      unit: 'times',
    }),
    budget: doc(whole(0, 100).default(10), {
      description:
        'Retries as a share of the requests to this upstream, ten at once at most, so that a failing upstream does not get three times the load. With little traffic, two in 10 s are always allowed. 0 allows none.',
      unit: 'percent',
    }),
  })
  .transform(({ max, budget }) => ({ max, budgetPercent: budget }))
  .prefault({});

const breaker = z
  .strictObject({
    enabled: doc(flag().default(true), {
      description: 'false: requests are sent regardless of failures, and callers wait for each to fail.',
    }),
    failurePercent: doc(whole(1, 100).default(50), {
      description:
        'Share of failed attempts that opens the breaker: no connection, a broken one, no response in time, or 502, 503, 504; any other status is a response. Failures of one tenant, or of one resource, open it for no other tenant. Then requests get 503 `breaker_open`, or a stale response where `staleIfError` allows it. If it is too low, short disturbances stop all requests.',
      unit: 'percent',
    }),
    minRequests: doc(whole(1, 1_000_000).default(10), {
      description: 'With fewer attempts in `window` the breaker stays closed: two failures out of three mean little.',
      unit: 'attempts',
    }),
    window: doc(duration(1_000, HOUR).prefault('30s'), {
      description: 'Period in which attempts are counted.',
    }),
    open: doc(duration(10, HOUR).prefault('5s'), {
      description:
        'Pause without requests, shortened at random by up to a quarter. Then two probes at a time are sent: reads first, of tenants without failures first if there are any; after another such pause any request. Two good probes in a row close the breaker, and a failed one doubles the pause.',
    }),
    maxOpen: doc(duration(10, HOUR).prefault('60s'), {
      description:
        'Longest pause after doubling: the recovery of an upstream is noticed that late. Never less than `open`.',
    }),
  })
  .transform(({ window, open, maxOpen, ...rules }) => ({
    ...rules,
    windowMs: window,
    openMs: open,
    maxOpenMs: Math.max(open, maxOpen),
  }))
  .prefault({});

export const upstreamSchema = z.strictObject({
  account: doc(optional(id()), {
    description: 'Account with the quota and credentials. Required only if there are several accounts.',
  }),
  origin: doc(optional(origin()), {
    description:
      'Scheme, host and port. The defaults of `core` and `start` are the addresses of Patchworks. A new address of the host is used within a minute: no connection lives longer.',
  }),
  timeout: doc(optional(duration(10, HOUR)), {
    description:
      'Longest time from sending to the headers of the response, and between two chunks of a body; then 504. 30s for `core`, 60s for `start`, 30s for others.',
  }),
  maxInFlight: doc(whole(1, 1_024).default(128), {
    description:
      'Requests of one replica that are under way to this upstream at the same time, up to the last byte of the response. Others wait in order, within `maxWait` and without a slot; then 429 `queue_timeout`. If it is too low, slow responses delay fast ones.',
    unit: 'requests',
  }),
  retries,
  breaker,
});

export const routeSchema = z.strictObject({
  match: doc(pattern(), { description: 'Method and path: `*` is one segment, `**` the rest. `GET` covers HEAD.' }),
  upstream: doc(id(), { description: 'Upstream for matching requests.' }),
  rewrite: doc(
    optional(
      z.string({ error: 'must be a path such as /api/v1' }).refine(isPath, {
        error: 'must be a path such as /api/v1, without wildcards, query, and empty or dot segments',
      }),
    ),
    {
      description:
        'Beginning of the path at the upstream, in place of the segments of `match` before its first wildcard: with `* /shop/**` and `/admin/v2`, `/shop/orders?page=2` is sent as `/admin/v2/orders?page=2`. The rest and the query follow unchanged. `allow`, cache rules, budgets and metrics go by the path that the caller sent; the denylist holds for both. Default: the path is sent as it is.',
    },
  ),
  credential: doc(optional(id()), {
    description:
      "Id of the only credential that is used, of those of the upstream's account: after a 401 no other is tried. Default: all of the account, in their order.",
  }),
  rewriteLinks: doc(flag().default(true), {
    description:
      'true: pagination links in JSON, and `Location`, `Content-Location` and `Link` on an upstream origin, lead back to the gateway. The upstream is then asked for uncompressed responses. The body of a download (`…/download`, or an attachment) is a file and stays as it is. false: all of them pass unchanged, so that a caller that follows them leaves the gateway.',
  }),
});

function isPath(value: string): boolean {
  const canonical = canonicalise(value);
  return canonical.ok && !/[*?]/.test(value);
}
