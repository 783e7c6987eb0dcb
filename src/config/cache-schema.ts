import { z } from 'zod';
import type { CacheRule } from '../cache/options.ts';
import { doc, duration, flag, headerName, id, pathPattern, pattern, size } from './option-types.ts';
import { cacheRuleDefaults, invalidateDefaults } from './patchworks-defaults.ts';

/** The shape of `cache` in gateway.yaml. */
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const stale = (description: string) => doc(duration(0, 365 * DAY).prefault('0s'), { description });
/** Vary on these would put a credential into a cache key. */
const NOT_FOR_VARY = ['authorization', 'cookie', 'x-api-key', 'patchworks-signature'];
const fieldName = () =>
  headerName()
    .transform((name) => name.toLowerCase())
    .refine((name) => !NOT_FOR_VARY.includes(name), { error: 'must not be a field that carries a key' });

/** A value is compared with each part of `include=labels,latestVersion.variables`, so it has neither commas nor dots. */
const queryValue = () =>
  z.string({ error: 'must be a text' }).regex(/^[A-Za-z0-9][\w-]*$/, {
    error: 'must be one name, such as variables: it also matches in lists and below other names (a.variables)',
  });
const parameter = () =>
  z.string().regex(/^[A-Za-z][\w-]*$/, { error: 'must be the name of a query parameter without brackets' });

const cacheRule = z
  .strictObject({
    match: doc(pattern(), { description: 'Method and path.' }),
    ttl: doc(duration(0, 365 * DAY).optional(), {
      description:
        'How long a 200 response is fresh, regardless of its Cache-Control. Writes that bypass the gateway stay unseen that long.',
    }),
    store: doc(z.literal(false, { error: 'can only be false' }).optional(), {
      description: 'false: never store. In place of `ttl`.',
    }),
    staleWhileRevalidate: stale(
      "How long after its ttl a response is served at once while a refresh runs in the background. The refresh takes none of the account's last slots. Callers see data that much older.",
    ),
    staleIfError: stale(
      'How long after its ttl a response is served when Patchworks fails: 5xx, no response in time, no connection, credentials rejected. After a failure a refresh is tried in the background every 10 s.',
    ),
    staleIfThrottled: stale(
      'How long after its ttl a response is served when there is no slot: after a wait of 1 s at most, instead of a 429.',
    ),
    unless: doc(z.record(parameter(), z.array(queryValue()).min(1, { error: 'must name a value' })).default({}), {
      description:
        'Query values that are neither stored nor shared with requests in flight, by parameter: `{ include: [variables] }`. Each value is a name, which is found in lists (`include=labels,variables`), repeated and bracketed parameters, and as part of a path (`latestVersion.variables`). Case, `_`, `-` and a plural s do not matter; `variables_count` is another name.',
    }),
    vary: doc(z.array(fieldName()).default([]), {
      description:
        'Request headers whose values are part of the cache key, besides Accept and those that Patchworks names in Vary. Each value is fetched and stored separately.',
    }),
    tags: doc(z.array(id()).default([]), {
      description: 'Names for `POST /cache/purge`, which removes the entries of this rule by them.',
    }),
  })
  .superRefine((rule, context) => {
    if ((rule.ttl === undefined) === (rule.store === undefined)) {
      context.addIssue({ code: 'custom', message: 'needs either ttl or store: false' });
    }
    if (rule.store === false && Object.keys(rule.unless).length > 0) {
      context.addIssue({
        code: 'custom',
        path: ['unless'],
        message: 'belongs to a rule with a ttl: this one stores nothing',
      });
    }
  })
  .transform(({ match, ttl, unless, vary, tags, ...stale }): CacheRule => {
    if (ttl === undefined) return { match, store: false };
    return {
      ...{ match, store: true, ttlMs: ttl, unless, vary, tags },
      staleWhileRevalidateMs: stale.staleWhileRevalidate,
      staleIfErrorMs: stale.staleIfError,
      staleIfThrottledMs: stale.staleIfThrottled,
    };
  });

export const cacheSchema = z
  .strictObject({
    memory: doc(size(0, 1024 ** 4).prefault('128MiB'), {
      description:
        'Memory for responses in this process; the least recently used are evicted first. `0B` turns the cache off.',
    }),
    maxEntry: doc(size(0, 1024 ** 3).prefault('2MiB'), {
      description: 'Largest stored response. Larger ones are passed on only.',
    }),
    shared: doc(flag().default(true), {
      description:
        'true, with `redis:`: responses are stored in Redis too, and shared by replicas. Redis keeps each for its ttl and its longest stale window, compressed; above 80 % of its `maxmemory` no more are stored. false: each replica has its own cache; invalidation still reaches all.',
    }),
    maxDisconnectedAge: doc(duration(0, HOUR).prefault('5s'), {
      description:
        'With `redis:`, longest time that a replica without contact to Redis serves a cached response, because it cannot receive invalidations of the others. It notices the loss within 3s, during which writes wait for it. 0s: it serves no cached responses meanwhile.',
    }),
    rules: doc(z.array(cacheRule).optional(), {
      description:
        'Cache rules; the first match wins. Each has `match` and either `ttl` or `store: false`. Without a match, RFC 9111 decides as for a shared cache, which for Patchworks means never. Default: see "Defaults for Patchworks".',
    }),
    invalidate: doc(
      z
        .array(
          z.strictObject({
            after: doc(pattern(), { description: 'Method and path of the write.' }),
            drop: doc(z.array(pathPattern()), {
              description: 'Paths whose entries are invalidated, besides the written collection.',
            }),
          }),
        )
        .optional(),
      {
        description:
          'Entries that a write invalidates besides its own collection. Default: see "Defaults for Patchworks".',
      },
    ),
  })
  .transform(({ memory, maxEntry, shared, maxDisconnectedAge, rules, invalidate }) => ({
    memoryBytes: memory,
    maxEntryBytes: maxEntry,
    shared,
    maxDisconnectedAgeMs: maxDisconnectedAge,
    rules: rules ?? cacheRuleDefaults,
    invalidate: invalidate ?? invalidateDefaults,
  }))
  .prefault({});
