import { Readable } from 'node:stream';
import type { MonotonicMs } from '../clock.ts';
import { type Handler, type Middleware, type ProxyResponse, type Result, reject, respond } from '../context.ts';
import { traced } from '../ports.ts';
import type { FetchResultKind, InFlightFetch } from './coalescing.ts';
import { freshnessOf } from './freshness.ts';
import { invalidFreshnessHeaders } from './malformed.ts';
import type { Announced, CacheableContext, CacheOptions, WithFetchPlan } from './options.ts';
import { ageOf, type StoredResponse } from './store.ts';
import { fieldsOf, storedHeaders } from './stored-headers.ts';
import { type Collected, exactCopy, teeBody } from './tee-body.ts';
import { etagOf, mergeHeaders } from './validators.ts';
import { isStillValid, storeResponse } from './variants.ts';

/** A request that is paid for. */
export interface Sendable extends CacheableContext, WithFetchPlan {
  readonly slot: { refund(): void };
}

/** How long a key is remembered whose answer was of use to nobody else. */
const LONE_MS = 120_000;

/**
 * Below the quota: departs with the slot it was given, unless another flight for the same key has departed by now, and stores
 * the answer on its way up.
 */
export function cacheFill<E extends Sendable>(options: CacheOptions): Middleware<E, E> {
  return (next) => async (context) => {
    const { storeAs: into, shared } = context.fetch;
    if (into === null) return next(context);
    if (shared) return lead(options, context, into.fetchKey, next);
    const asked = askedNow(options, context, null);
    return settle(options, context, asked, await next(context));
  };
}

async function lead<E extends Sendable>(
  options: CacheOptions,
  context: E,
  key: string,
  next: Handler<E>,
): Promise<Result> {
  const { coalescing: flights, invalidations: drops, replicas: others } = options;
  if (flights.current(key) !== undefined) return turnBack(context);
  const flight = flights.start(key, drops.latestWrite(context.route.upstream.account), context.trace);
  flight.callers.join(context.disconnect);
  // From here on whoever waits for a slot for the same waits for this flight.
  flights.supersedeOthers(key, context.record.tenant);
  try {
    const landed = flight.result.then(({ kind }) => kind);
    const boarded =
      others === null ? ALONE : await traced(context.trace, 'board', others.announce(key, flight.since, landed));
    if (boarded.kind === 'theirs') {
      flight.trace = null;
      void landWith(options, flight, key, boarded.landed);
      return turnBack(context);
    }
    const entry = boarded.stored ? await freshIn(options, context, key) : null;
    if (entry !== null) {
      flight.finish({ kind: 'stored', entry, key, fields: [] });
      return turnBack(context);
    }
    const asked = askedNow(options, context, flight);
    const outcome = await next({ ...context, disconnect: flight.callers });
    return settle(options, context, asked, outcome);
  } catch (error) {
    flight.finish({ kind: 'failed' });
    throw error;
  }
}

const ALONE: Announced = { kind: 'ours', stored: false };

/** A fresh answer that another replica has stored since this one looked. */
async function freshIn(options: CacheOptions, context: CacheableContext, key: string): Promise<StoredResponse | null> {
  const entry = await options.store.getShared(key);
  if (entry?.kind !== 'response' || !isStillValid(options, context, entry)) return null;
  return ageOf(entry, options.clock.monotonic()) < entry.freshForMs ? entry : null;
}

/** Nothing was sent: the slot is free again, and the caller waits like everybody else. */
function turnBack({ slot, fetch }: Sendable): Result {
  slot.refund();
  fetch.superseded = true;
  return reject('internal', { internal: 'another request for the same was sent first' });
}

/** Lands as the flight of another replica does. */
async function landWith(
  { store }: CacheOptions,
  flight: InFlightFetch,
  key: string,
  theirs: Promise<FetchResultKind>,
): Promise<void> {
  try {
    const how = await theirs;
    const entry = how === 'stored' ? await store.get(key) : undefined;
    if (entry?.kind === 'response') flight.finish({ kind: 'stored', entry, key, fields: [] });
    // Stored and not to be found: it varies, was dropped, or replicas can not see what was too large for Redis.
    else flight.finish({ kind: how === 'stored' ? 'again' : how });
  } catch {
    flight.finish({ kind: 'again' });
  }
}

/** What is known of a request when it is sent. */
interface Asked {
  readonly at: MonotonicMs;
  /** The latest write of the account at that time. */
  readonly since: number;
  readonly flight: InFlightFetch | null;
}

function askedNow(
  { clock, invalidations: drops }: CacheOptions,
  context: CacheableContext,
  flight: InFlightFetch | null,
): Asked {
  return { at: clock.monotonic(), since: drops.latestWrite(context.route.upstream.account), flight };
}

function settle(options: CacheOptions, context: Sendable, asked: Asked, arrived: Result): Result {
  const { flight } = asked;
  if (arrived.kind === 'rejection') {
    flight?.finish({ kind: flight.callers.happened ? 'again' : 'failed' });
    return arrived;
  }
  const { fetch } = context;
  if (arrived.status === 304 && fetch.existing !== null)
    return confirm(options, context, asked, arrived, fetch.existing);
  const storing = planStoring(options, context, asked, arrived);
  if (storing !== null) return keepAndPass(options, context, asked, arrived, storing);
  // Neither an error nor a 304 to a condition of the caller's own says anything of the answers to come.
  if (arrived.status < 500 && arrived.status !== 304 && fetch.storeAs !== null)
    options.notShareable.add(fetch.storeAs.fetchKey, LONE_MS);
  flight?.finish({ kind: arrived.status >= 500 ? 'failed' : 'alone' });
  return arrived;
}

/** What is held is right: it is stored anew with what the 304 says, and is the answer. */
function confirm(
  options: CacheOptions,
  context: Sendable,
  asked: Asked,
  arrived: ProxyResponse,
  held: StoredResponse,
): Result {
  if (arrived.body instanceof Readable) arrived.body.destroy();
  const { fetch } = context;
  const full = respond(held.status, mergeHeaders(held.headers, arrived.headers), held.body);
  fetch.revalidated = true;
  const entry = planStoring(options, context, asked, full)?.store(held.body) ?? null;
  if (entry === null) asked.flight?.finish({ kind: 'alone' });
  fetch.stored = entry !== null;
  const now = options.clock.monotonic();
  fetch.entry = entry ?? { ...held, headers: storedHeaders(full.headers, fieldsOf(full.headers)), receivedAt: now };
  return full;
}

interface Storing {
  /** Null for a body that does not declare its length. */
  readonly declaredBytes: number | null;
  /** Stores the whole body, if that is still right by then; else null. */
  store(body: Buffer): StoredResponse | null;
}

/** Null: the answer may not be stored, or is known to be too large. */
function planStoring(
  options: CacheOptions,
  context: Sendable,
  { at, since, flight }: Asked,
  arrived: ProxyResponse,
): Storing | null {
  const { storeAs: into } = context.fetch;
  if (into === null) return null;
  const { status, body } = arrived;
  const fields = fieldsOf(arrived.headers);
  const { account } = context.route.upstream;
  // What was held was counted when it came.
  if (!context.fetch.revalidated)
    for (const field of invalidFreshnessHeaders(fields)) options.meter.invalidUpstreamHeader(account, field);
  const now = options.clock.now();
  const arrivedAt = options.clock.monotonic();
  const { upstreamMs } = context.record;
  const authorised = context.headers['authorization'] !== undefined;
  const lifetime = freshnessOf({ status, fields, now, upstreamMs, authorised }, into.rule);
  if (lifetime === null) return null;
  const declared = fields.get('content-length');
  const declaredBytes = Buffer.isBuffer(body) ? body.length : declared === undefined ? null : Number(declared);
  if (declaredBytes !== null && !(declaredBytes <= options.maxEntryBytes)) return null;
  const { initialAgeMs, freshForMs, stale } = lifetime;
  const tags = into.rule?.store === true ? into.rule.tags : [];
  const target = { segments: context.segments, tags };
  // Before the answer goes on: stages further out add fields of their own to its list.
  const headers = storedHeaders(arrived.headers, fields);
  const store = (whole: Buffer): StoredResponse | null => {
    const keepMs = lifetime.keepMs - (options.clock.monotonic() - arrivedAt);
    // Whoever was under way during a write may have seen the state before it.
    if (keepMs <= 0 || !options.invalidations.isValidSince(account, target, since)) return null;
    const entry: StoredResponse = {
      ...{ kind: 'response', status, headers, body: whole, tags },
      generatedEtag: fields.has('etag') || status !== 200 ? null : etagOf(whole),
      ...{ storedAt: now, receivedAt: arrivedAt, requestedAt: at, initialAgeMs, freshForMs, stale },
      validUpToWrite: since,
    };
    const kept = storeResponse(options, context, into.key, fields, entry, keepMs);
    options.notShareable.delete(into.fetchKey);
    options.failing.delete(into.fetchKey);
    flight?.finish({ kind: 'stored', entry, ...kept });
    return entry;
  };
  return { declaredBytes, store };
}

/** Stores the body once the whole of it is here, and passes it on meanwhile. */
function keepAndPass(
  options: CacheOptions,
  { fetch }: Sendable,
  { flight }: Asked,
  arrived: ProxyResponse,
  storing: Storing,
): ProxyResponse {
  const { body } = arrived;
  if (!(body instanceof Readable)) {
    const whole = body ?? Buffer.alloc(0);
    fetch.entry = storing.store(exactCopy([whole], whole.length));
    fetch.stored = fetch.entry !== null;
    if (fetch.entry === null) flight?.finish({ kind: 'alone' });
    return arrived;
  }
  const company = flight?.callers ?? null;
  let stopListening = (): void => {};
  const passed: Collected = teeBody(body, {
    limitBytes: options.maxEntryBytes,
    declaredBytes: storing.declaredBytes,
    onComplete: (bytes) => {
      stopListening();
      if (bytes !== null && storing.store(bytes) !== null) return;
      flight?.finish({ kind: company?.happened === true ? 'again' : 'alone' });
    },
    keepReading: () => company !== null && !company.happened,
  });
  // They may all have left by now: then it is given up at once.
  stopListening = company?.onDisconnect(() => passed.abandon()) ?? stopListening;
  // Whether it will be whole and small enough is not known when the headers leave: only a declared size can tell.
  fetch.stored = storing.declaredBytes !== null;
  return respond(arrived.status, arrived.headers, passed);
}
