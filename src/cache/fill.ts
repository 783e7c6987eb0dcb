import { Readable } from 'node:stream';
import type { MonotonicMs } from '../clock.ts';
import { type Handler, type Middleware, type ProxyResponse, type Result, reject, respond, traced } from '../context.ts';
import { fieldsOf, invalidFreshnessHeaders } from './cache-control.ts';
import type { FetchResultKind, InFlightFetch } from './coalescing.ts';
import { freshnessOf } from './freshness.ts';
import { findFresher, storeResponse, unshareableName } from './key.ts';
import type { Announced, CacheableContext, CacheOptions, WithFetchPlan } from './options.ts';
import type { StoredResponse } from './store.ts';
import { etagOf, mergeHeaders, storedHeaders } from './stored-headers.ts';
import { exactCopy, TeeBody } from './tee-body.ts';

/** A request that holds a slot. */
export interface FillContext extends CacheableContext, WithFetchPlan {
  readonly sending: { readonly slot: { refund(): void } };
}

/** How long requests for a key are not coalesced after a response that could not be shared. */
const NOT_SHAREABLE_TTL_MS = 120_000;

/**
 * Sends the request with the slot it holds, unless another fetch for the same key was sent meanwhile, and stores the response
 * on its way to the caller.
 */
export function cacheFill<E extends FillContext>(options: CacheOptions): Middleware<E, E> {
  return (next) => async (context) => {
    const { storeAs, shared } = context.fetch;
    if (storeAs === null) return next(context);
    if (shared) return fetchForAll(options, context, storeAs.fetchKey, next);
    const fetch = new Fetch(options, context, null);
    return fetch.handle(await next(context));
  };
}

/** Fetches for all callers that wait for this key, in this process and in other replicas. */
async function fetchForAll<E extends FillContext>(
  options: CacheOptions,
  context: E,
  key: string,
  next: Handler<E>,
): Promise<Result> {
  const { coalescing, invalidations, replicas } = options;
  if (coalescing.current(key) !== undefined) return giveWay(context);
  const since = invalidations.latestWrite(context.route.upstream.account);
  const inFlight = coalescing.start(key, since, context.trace);
  inFlight.callers.join(context.disconnect);
  coalescing.supersedeOthers(key, context.record.tenant);
  try {
    const ended = inFlight.result.then(({ kind }) => kind);
    const announced =
      replicas === null
        ? NO_OTHER_FETCH
        : await traced(context.trace, 'cache announce', replicas.announce(key, since, ended));
    if (announced.kind === 'theirs') {
      inFlight.trace = null;
      void finishWithReplica(options, inFlight, key, announced.result);
      return giveWay(context);
    }
    const entry = announced.stored ? await findFresher(options, context, key, null) : null;
    if (entry !== null) {
      inFlight.finish({ kind: 'stored', entry, key, fields: [] });
      return giveWay(context);
    }
    const fetch = new Fetch(options, context, inFlight);
    // The fetch goes on while any caller waits for it, not only the one that started it.
    return fetch.handle(await next({ ...context, disconnect: inFlight.callers }));
  } catch (error) {
    inFlight.finish({ kind: 'failed' });
    throw error;
  }
}

const NO_OTHER_FETCH: Announced = { kind: 'ours', stored: false };

/** Returns the slot unused; the caller waits for the other fetch. */
function giveWay({ sending, fetch }: FillContext): Result {
  sending.slot.refund();
  fetch.superseded = true;
  return reject('internal', { internal: 'another request for the same was sent first' });
}

/** Ends the local fetch as the fetch of another replica ends. */
async function finishWithReplica(
  { store }: CacheOptions,
  inFlight: InFlightFetch,
  key: string,
  ended: Promise<FetchResultKind>,
): Promise<void> {
  try {
    const kind = await ended;
    const entry = kind === 'stored' ? await store.get(key) : undefined;
    if (entry?.kind === 'response') inFlight.finish({ kind: 'stored', entry, key, fields: [] });
    // A stored response that is not found varies, was invalidated, or was too large for Redis.
    else inFlight.finish({ kind: kind === 'stored' ? 'cancelled' : kind });
  } catch {
    inFlight.finish({ kind: 'cancelled' });
  }
}

interface Storing {
  /** Null for a body that does not declare its length. */
  readonly declaredBytes: number | null;
  /** Stores the complete body; null if that is not allowed any more. */
  store(body: Buffer): StoredResponse | null;
}

/** A request that is sent now, and what becomes of its result. */
class Fetch {
  readonly #options: CacheOptions;
  readonly #context: FillContext;
  readonly #inFlight: InFlightFetch | null;
  readonly #sentAt: MonotonicMs;
  /** The latest write of the account when it was sent. */
  readonly #since: number;

  constructor(options: CacheOptions, context: FillContext, inFlight: InFlightFetch | null) {
    this.#options = options;
    this.#context = context;
    this.#inFlight = inFlight;
    this.#sentAt = options.clock.monotonic();
    this.#since = options.invalidations.latestWrite(context.route.upstream.account);
  }

  handle(result: Result): Result {
    const inFlight = this.#inFlight;
    if (result.kind === 'rejection') {
      inFlight?.finish({ kind: inFlight.callers.happened ? 'cancelled' : 'failed' });
      return result;
    }
    const { existing, storeAs } = this.#context.fetch;
    if (result.status === 304 && existing !== null) return this.#revalidate(result, existing);
    const storing = this.#prepare(result);
    if (storing !== null) return this.#storeWhileSending(result, storing);
    // A redirect, an error, or a 304 to the caller's own condition does not show whether the response to others can be shared: a field
    // that no key contains may be its cause.
    const isSuccess = result.status < 300;
    if (isSuccess && storeAs !== null)
      this.#options.notShareable.add(unshareableName(this.#context, storeAs.fetchKey), NOT_SHAREABLE_TTL_MS);
    inFlight?.finish({ kind: isSuccess ? 'unshareable' : result.status < 500 ? 'refused' : 'failed' });
    return result;
  }

  /** Stores the existing response again, with the headers of the 304. */
  #revalidate(notModified: ProxyResponse, existing: StoredResponse): ProxyResponse {
    if (notModified.body instanceof Readable) notModified.body.destroy();
    const { fetch } = this.#context;
    const full = respond(existing.status, mergeHeaders(existing.headers, notModified.headers), existing.body);
    fetch.revalidated = true;
    const entry = this.#prepare(full)?.store(existing.body) ?? null;
    if (entry === null) this.#inFlight?.finish({ kind: 'unshareable' });
    fetch.stored = entry !== null;
    const headers = storedHeaders(full.headers, fieldsOf(full.headers));
    fetch.entry = entry ?? { ...existing, headers, receivedAt: this.#options.clock.monotonic() };
    return full;
  }

  /** Null: the response may not be stored, or is known to be too large. */
  #prepare(response: ProxyResponse): Storing | null {
    const { clock, invalidations, meter, maxEntryBytes, notShareable, failing } = this.#options;
    const { storeAs, revalidated } = this.#context.fetch;
    if (storeAs === null || response.endsWithConnection === true) return null;
    const { status, body } = response;
    const fields = fieldsOf(response.headers);
    const { account } = this.#context.route.upstream;
    // The fields of an existing response were counted when it arrived.
    if (!revalidated) for (const field of invalidFreshnessHeaders(fields)) meter.invalidUpstreamHeader(account, field);
    const now = clock.now();
    const receivedAt = clock.monotonic();
    const { upstreamMs } = this.#context.record;
    const authorised = this.#context.headers['authorization'] !== undefined;
    const fresh = freshnessOf({ status, fields, now, upstreamMs, authorised }, storeAs.rule);
    if (fresh === null) return null;
    const declared = fields.get('content-length');
    const declaredBytes = Buffer.isBuffer(body) ? body.length : declared === undefined ? null : Number(declared);
    if (declaredBytes !== null && !(declaredBytes <= maxEntryBytes)) return null;
    const { keepMs, ...freshness } = fresh;
    const tags = storeAs.rule?.tags ?? [];
    const target = { segments: this.#context.segments, tags };
    // Copied now: outer middleware adds fields to the list of the response.
    const headers = storedHeaders(response.headers, fields);
    const store = (complete: Buffer): StoredResponse | null => {
      const leftMs = keepMs - (clock.monotonic() - receivedAt);
      // A request that overlapped with a write may have read the state before it.
      if (leftMs <= 0 || !invalidations.isValidSince(account, target, this.#since)) return null;
      const entry: StoredResponse = {
        ...{ kind: 'response', status, headers, body: complete, tags, ...freshness },
        generatedEtag: fields.has('etag') || status !== 200 ? null : etagOf(complete),
        ...{ storedAt: now, receivedAt, requestedAt: this.#sentAt },
        validUpToWrite: this.#since,
      };
      const stored = storeResponse(this.#options, this.#context, storeAs.primaryKey, fields, entry, leftMs);
      notShareable.delete(unshareableName(this.#context, storeAs.fetchKey));
      failing.delete(storeAs.fetchKey);
      this.#inFlight?.finish({ kind: 'stored', entry, ...stored });
      return entry;
    };
    return { declaredBytes, store };
  }

  /** Sends the body to the caller, and stores it when it is complete. */
  #storeWhileSending(response: ProxyResponse, { declaredBytes, store }: Storing): ProxyResponse {
    const { fetch, record } = this.#context;
    const { maxEntryBytes, bodyMemory } = this.#options;
    const inFlight = this.#inFlight;
    const { body } = response;
    if (!(body instanceof Readable)) {
      const complete = body ?? Buffer.alloc(0);
      fetch.entry = store(exactCopy([complete], complete.length));
      fetch.stored = fetch.entry !== null;
      if (fetch.entry === null) inFlight?.finish({ kind: 'unshareable' });
      return response;
    }
    const callers = inFlight?.callers ?? null;
    let stopListening = (): void => {};
    const tee = new TeeBody(body, {
      limitBytes: maxEntryBytes,
      declaredBytes,
      memory: bodyMemory.open(record.tenant),
      onComplete: (bytes) => {
        stopListening();
        if (bytes !== null && store(bytes) !== null) return;
        inFlight?.finish({ kind: callers?.happened === true ? 'cancelled' : 'unshareable' });
      },
      keepReading: () => callers !== null && !callers.happened,
    });
    // All callers may have disconnected already: then this runs at once.
    stopListening = callers?.onDisconnect(() => tee.abandon()) ?? stopListening;
    // Only a declared size shows, before the body has arrived, that it will be stored.
    fetch.stored = declaredBytes !== null;
    return respond(response.status, response.headers, tee);
  }
}
