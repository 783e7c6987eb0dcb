import { z } from 'zod';
import { doc, duration, flag, id, origin, whole } from './fields.ts';

const HOUR = 3_600_000;

const retries = z
  .strictObject({
    max: doc(whole(0, 2).default(2), {
      description:
        'How often a request is sent again: GET and HEAD that found no connection, lost it before an answer, or were answered 502, 503 or 504; any other method only where no byte can have left. Each needs a slot of its own, all of them together stay within `timeout`, and without a slot the first failure is the answer. 0 turns it off.',
      unit: 'times',
      shown: '2',
    }),
    budget: doc(whole(0, 100).default(10), {
      description:
        'Retries as a share of the requests to this upstream, ten at once at most, so that a failing upstream is not asked three times as much. Where there is little traffic, two in 10 s are always allowed. 0 allows none at all.',
      unit: 'percent',
      shown: '10',
    }),
  })
  .prefault({});

const breaker = z
  .strictObject({
    enabled: doc(flag().default(true), {
      description: 'false: requests are sent however many have failed, and callers wait for each to fail.',
      shown: 'true',
    }),
    failurePercent: doc(whole(1, 100).default(50), {
      description:
        'At this share of failed attempts (no connection, no answer in time, no HTTP, 5xx; not 429 or any other 4xx) the replica stops sending: 503 `breaker_open`, or what is stale where `staleIfError` allows it. Too low, and errors of a single call stop all others.',
      unit: 'percent',
      shown: '50',
    }),
    minRequests: doc(whole(1, 1_000_000).default(10), {
      description: 'With fewer attempts in `window` it stays closed: two failures out of three mean little.',
      unit: 'attempts',
      shown: '10',
    }),
    window: doc(duration(1_000, HOUR).default(30_000), {
      description: 'How far back attempts are counted.',
      unit: 'duration',
      shown: '30s',
    }),
    open: doc(duration(10, HOUR).default(5_000), {
      description:
        'How long nothing is sent, less up to a quarter by chance. Then two requests at a time try whether it is back, reads first; after as long again writes as well. Two good ones in a row close it; a bad one doubles the pause.',
      unit: 'duration',
      shown: '5s',
    }),
    maxOpen: doc(duration(10, HOUR).default(60_000), {
      description:
        'The pause is doubled up to this: an upstream that is back is noticed that late. Never less than `open`.',
      unit: 'duration',
      shown: '60s',
    }),
  })
  .prefault({});

export const upstreamSchema = z.strictObject({
  account: doc(id().optional(), {
    description: 'Account whose quota and credentials are used. Needed only where there are several.',
  }),
  origin: doc(origin().optional(), {
    description:
      'Scheme, host and port. `core` and `start` have the addresses of Patchworks as defaults. A name that leads elsewhere is followed within a minute: no connection is used for longer.',
  }),
  timeout: doc(duration(10, HOUR).optional(), {
    description:
      'From sending to the headers of the answer, and between two chunks of a body; then 504. 30s for `core`, 60s for `start`, 30s for others.',
    unit: 'duration',
  }),
  maxInFlight: doc(whole(1, 1_024).default(128), {
    description:
      'Requests of one replica that are under way to this upstream at a time, to the last byte of the answer. The rest waits in order, within `maxWait` and without a slot; then 429 `queue_timeout`. Too low, and slow answers hold up fast ones.',
    unit: 'requests',
    shown: '128',
  }),
  retries,
  breaker,
});
