import { z } from 'zod';
import { doc, duration, flag, id, pathPattern, pattern, size } from './fields.ts';

/** The shape of `cache` in gateway.yaml: what is kept, for how long, and what a write drops. */
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const stale = (description: string) =>
  doc(duration(0, 365 * DAY).default(0), { description, unit: 'duration', shown: '0s' });
/** In a key, a credential would be kept where it has no business. */
const NO_PARTING = ['authorization', 'cookie', 'x-api-key'];
const fieldName = () =>
  z
    .string({ error: 'must be the name of a header field' })
    .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, { error: 'must be the name of a header field' })
    .transform((name) => name.toLowerCase())
    .refine((name) => !NO_PARTING.includes(name), { error: 'may not be a field that carries a key' });

const cacheRule = z
  .strictObject({
    match: doc(pattern(), { description: 'Method and path.' }),
    ttl: doc(duration(0, 365 * DAY).optional(), {
      description:
        'How long an answer 200 is served from cache, whatever Patchworks says about it. Writes by others than the gateway stay unseen that long.',
      unit: 'duration',
    }),
    store: doc(z.literal(false, { error: 'can only be false' }).optional(), {
      description: 'false: never store. In place of `ttl`.',
    }),
    staleWhileRevalidate: stale(
      'How long after its ttl an answer is served at once while it is fetched anew in the background, which takes none of the last slots of the account. Callers see data that much older.',
    ),
    staleIfError: stale(
      'How long after its ttl an answer is served when Patchworks fails: 5xx, no answer in time, no connection, credentials rejected. After a failure it is tried again in the background every 10 s.',
    ),
    staleIfThrottled: stale(
      'How long after its ttl an answer is served when there is no slot to ask Patchworks: after a wait of 1 s at most, in place of a 429.',
    ),
    vary: doc(z.array(fieldName()).default([]), {
      description:
        'Request header fields whose values part the answers, besides those that Patchworks names in Vary and Accept. Each value is fetched and stored by itself.',
      shown: '[]',
    }),
    tags: doc(z.array(id()).default([]), {
      description: 'Names under which `POST /cache/purge` drops what was stored by this rule.',
      shown: '[]',
    }),
  })
  .superRefine((rule, context) => {
    if ((rule.ttl === undefined) === (rule.store === undefined)) {
      context.addIssue({ code: 'custom', message: 'needs either ttl or store: false' });
    }
  });

export const cacheSchema = z
  .strictObject({
    memory: doc(size(0, 1024 ** 4).default(128 * 1024 ** 2), {
      description: 'Room for answers in this process; the least recently used go first. `0B` turns the cache off.',
      unit: 'size',
      shown: '128MiB',
    }),
    maxEntry: doc(size(0, 1024 ** 3).default(2 * 1024 ** 2), {
      description: 'Larger answers are passed on and not stored.',
      unit: 'size',
      shown: '2MiB',
    }),
    shared: doc(flag().default(true), {
      description:
        'With `redis:`, keep answers there too, so that replicas need not fetch what another one has. Needs room in Redis: each answer is kept for its ttl and its longest stale window, compressed; above 80 % of its `maxmemory` no more are stored. false: each replica has its own; writes still reach all.',
      shown: 'true',
    }),
    maxDisconnectedAge: doc(duration(0, HOUR).default(5_000), {
      description:
        'With `redis:`, while a replica can not hear of writes through the others, it serves an answer no longer than this. It notices within 3s, during which a write waits for it. 0s: nothing is served from cache meanwhile.',
      unit: 'duration',
      shown: '5s',
    }),
    rules: doc(z.array(cacheRule).optional(), {
      description:
        'First match wins; each has `match` and either `ttl` or `store: false`. Without a match an answer is stored as RFC 9111 allows a shared cache, which for Patchworks means never. Default: see "Defaults for Patchworks".',
    }),
    invalidate: doc(
      z
        .array(
          z.strictObject({
            after: doc(pattern(), { description: 'A write that succeeded.' }),
            drop: doc(z.array(pathPattern()), {
              description: 'Paths whose answers are dropped, besides the collection that was written to.',
            }),
          }),
        )
        .optional(),
      { description: 'What a write drops besides its own collection. Default: see "Defaults for Patchworks".' },
    ),
  })
  .prefault({});
