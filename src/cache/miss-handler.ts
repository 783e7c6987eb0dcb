import { Readable } from 'node:stream';
import {
  AccessRecord,
  type ClientDisconnect,
  DEFAULT_WAIT_TERMS,
  type Handler,
  NEVER_DISCONNECTS,
  onTimeoutOrDisconnect,
  type Result,
  reject,
  traced,
  type WaitTerms,
  type WithWaitTerms,
} from '../context.ts';
import {
  type CachedResponses,
  evaluate,
  FAILING_TTL_MS,
  fallbackReasonFor,
  forwardStatus,
  isNotModified,
} from './cached-response.ts';
import type { FetchResult, InFlightFetch, TenantLeader } from './coalescing.ts';
import { ageOf, findFresher, findStored, isStillValid, unshareableName, variantKey } from './key.ts';
import {
  type CacheableContext,
  type CacheOptions,
  type FetchPlan,
  type Miss,
  NOT_FETCHED,
  type WithFetchPlan,
} from './options.ts';
import type { StoredResponse } from './store.ts';
import { withValidators } from './stored-headers.ts';

/**
 * The end of one step of a coalesced fetch: the result for this caller, or how it goes on.
 *
 * - `retry`: the step brought no response. The caller joins another fetch, or starts one.
 * - `alone`: the response cannot be shared, or takes too long. The caller fetches for itself.
 */
type Step = Result | 'retry' | 'alone';

/** A request with a stale response to fall back on waits no longer than this for a slot. */
const MAX_WAIT_WITH_FALLBACK_MS = 1_000;
/** After this many fetches without a response for others, or the upstream's timeout in waiting for them, a request is sent alone. */
const MAX_FETCHES = 3;

type Fetchable<E> = E & WithFetchPlan & WithWaitTerms;

/** Fetches responses that are not stored: one request to the upstream for all callers that miss the same key. */
export class MissHandler<E extends CacheableContext> {
  readonly #options: CacheOptions;
  readonly #responses: CachedResponses;
  readonly #next: Handler<Fetchable<E>>;

  constructor(options: CacheOptions, responses: CachedResponses, next: Handler<Fetchable<E>>) {
    this.#options = options;
    this.#responses = responses;
    this.#next = next;
  }

  async fetch(context: E, miss: Miss): Promise<Result> {
    const fresher = await this.#findFresher(context, miss);
    if (fresher !== null && this.#isFresh(fresher, miss)) return this.#responses.hit(context, fresher);
    const { directives, rule, reason, existing, fetchKey } = miss;
    // Without a rule, only the response shows whether it may be stored, so a HEAD stays a HEAD.
    const mayStore = !directives.noStore && (context.method !== 'HEAD' || rule !== null);
    const hasFallback = reason === 'stale' && existing !== null && existing.stale.staleIfThrottledMs > 0;
    const terms = { ...DEFAULT_WAIT_TERMS, ...(hasFallback && { maxWaitMs: MAX_WAIT_WITH_FALLBACK_MS }) };
    const { headers } = context;
    const conditional = headers['if-none-match'] !== undefined || headers['if-modified-since'] !== undefined;
    const ownRequest = reason === 'request' || (conditional && rule === null && existing === null);
    if (!mayStore) return this.#fetchAlone(context, miss, null, terms);
    return ownRequest || this.#options.notShareable.has(unshareableName(context, fetchKey))
      ? this.#fetchAlone(context, miss, miss, terms)
      : this.#fetchCoalesced(context, miss, terms);
  }

  /** Starts no refresh while another fetch for the key is under way, or shortly after one failed. */
  refreshInBackground(context: E, miss: Miss): void {
    const { fetchKey } = miss;
    const { failing } = this.#options;
    if (this.#options.coalescing.isBusy(fetchKey) || failing.has(fetchKey)) return;
    context.record.refreshed = true;
    const { route, tenant } = context.record;
    const trace = context.trace?.start('refresh') ?? null;
    const record = { ...new AccessRecord(), route, tenant };
    const detached = { ...context, trace, record, disconnect: NEVER_DISCONNECTS };
    const terms: WaitTerms = { ...DEFAULT_WAIT_TERMS, maxWaitMs: 0, background: true };
    const refresh = async (): Promise<void> => {
      const leader = this.#options.coalescing.lead(fetchKey, '', NEVER_DISCONNECTS);
      const plan = sharedPlan(miss);
      try {
        if ((await this.#findFresher(detached, miss)) !== null) return;
        const result = await this.#send(detached, miss, plan, terms);
        if (result.kind === 'response' && result.body instanceof Readable)
          await drain(result.body, this.#options.maxEntryBytes);
        if (!plan.superseded && fallbackReasonFor(result) !== null) failing.add(fetchKey, FAILING_TTL_MS);
      } finally {
        leader.end();
        trace?.end();
      }
    };
    this.#options.background(refresh());
  }

  async #fetchAlone(context: E, miss: Miss, storeAs: Miss | null, terms: WaitTerms): Promise<Result> {
    const plan: FetchPlan = { storeAs, shared: false, existing: storeAs?.existing ?? null, ...NOT_FETCHED };
    return this.#finish(context, miss, plan, await this.#send(context, miss, plan, terms));
  }

  async #fetchCoalesced(context: E, miss: Miss, initialTerms: WaitTerms): Promise<Result> {
    let terms = initialTerms;
    let joinedMs = 0;
    for (let fetches = 0; fetches < MAX_FETCHES && joinedMs < context.route.upstream.timeoutMs; ) {
      let step: Step;
      const inFlight = this.#joinableFetch(context, miss);
      if (inFlight !== null) {
        fetches += 1;
        const joinedAt = this.#options.clock.monotonic();
        step = await this.#joinInFlightFetch(context, miss, inFlight);
        joinedMs += this.#options.clock.monotonic() - joinedAt;
      } else {
        const startedAt = this.#options.clock.monotonic();
        const leader = this.#options.coalescing.leaderOf(miss.fetchKey, context.record.tenant);
        if (leader !== undefined) {
          step = await this.#waitForLeader(context, miss, leader);
        } else {
          fetches += 1;
          step = await this.#fetchAsLeader(context, miss, terms);
        }
        terms = { ...terms, waitedMs: terms.waitedMs + this.#options.clock.monotonic() - startedAt };
      }
      if (step === 'alone') break;
      if (step !== 'retry') return step;
    }
    return this.#fetchAlone(context, miss, miss, terms);
  }

  /** A fetch that was sent before a write must not serve a request that came after it. */
  #joinableFetch(context: E, { fetchKey, rule }: Miss): InFlightFetch | null {
    const inFlight = this.#options.coalescing.current(fetchKey);
    if (inFlight === undefined) return null;
    const target = { segments: context.segments, tags: rule?.tags ?? [] };
    const { account } = context.route.upstream;
    if (this.#options.invalidations.isValidSince(account, target, inFlight.since)) return inFlight;
    this.#options.coalescing.detach(fetchKey, inFlight);
    return null;
  }

  async #joinInFlightFetch(context: E, miss: Miss, inFlight: InFlightFetch): Promise<Step> {
    const leave = inFlight.callers.join(context.disconnect);
    const span = context.trace?.start('join', {}, inFlight.trace);
    const result = await this.#waitFor(context, inFlight.result);
    span?.end();
    leave();
    if (result === 'disconnected')
      return reject('client_closed', { internal: 'waited for the fetch of another caller' });
    return result === 'timeout' ? 'alone' : this.#useFetchResult(context, miss, result);
  }

  async #useFetchResult(context: E, miss: Miss, result: FetchResult): Promise<Step> {
    switch (result.kind) {
      case 'stored': {
        const { fields, entry } = result;
        const ownKey = fields.length === 0 ? result.key : variantKey(miss.primaryKey, fields, context);
        const usable = ownKey === result.key && isStillValid(this.#options, context, entry);
        return usable ? this.#responses.collapsed(context, entry, miss.reason) : 'alone';
      }
      case 'cancelled':
        return this.#serveStored(context, miss);
      case 'refused':
        return 'retry';
      case 'failed':
        return this.#responses.fallback(context, miss, reject('upstream_unreachable')) ?? 'retry';
      case 'unshareable':
        return 'alone';
    }
  }

  /** Waits for the request of the same tenant that asks for a slot. */
  async #waitForLeader(context: E, miss: Miss, leader: TenantLeader): Promise<Step> {
    const ended = await traced(context.trace, 'wait', this.#waitFor(context, leader.finished));
    if (ended === 'disconnected') return reject('client_closed', { internal: 'waited for the slot of another caller' });
    if (ended === 'timeout') return 'alone';
    return leader.fetchStarted ? this.#afterOtherFetch(context, miss) : 'retry';
  }

  /** Asks for a slot, and fetches unless another fetch for the key was sent meanwhile. */
  async #fetchAsLeader(context: E, miss: Miss, terms: WaitTerms): Promise<Step> {
    const leader = this.#options.coalescing.lead(miss.fetchKey, context.record.tenant, context.disconnect);
    const plan = sharedPlan(miss);
    try {
      const result = await this.#send(context, miss, plan, terms, leader.disconnect);
      const gaveWay = leader.superseded && result.kind === 'rejection' && !context.disconnect.happened;
      if (!plan.superseded && !gaveWay) return this.#finish(context, miss, plan, result);
    } finally {
      leader.end();
    }
    return this.#afterOtherFetch(context, miss);
  }

  /** The other fetch may have ended by now: then its response is in the store. */
  async #afterOtherFetch(context: E, miss: Miss): Promise<Step> {
    return this.#joinableFetch(context, miss) === null ? this.#serveStored(context, miss) : 'retry';
  }

  async #serveStored(context: E, miss: Miss): Promise<Step> {
    const { entry } = await findStored(this.#options, context, miss.primaryKey);
    if (entry === null || !this.#isFresh(entry, miss)) return 'retry';
    return this.#responses.collapsed(context, entry, miss.reason);
  }

  /** Sends the request; the response may be stored, and others may wait for it. */
  async #send(
    context: E,
    miss: Miss,
    plan: FetchPlan,
    terms: WaitTerms,
    disconnect: ClientDisconnect = context.disconnect,
  ): Promise<Result> {
    const { method, rawHeaders } = context;
    const forOthers = plan.shared || plan.existing !== null || (miss.rule !== null && plan.storeAs !== null);
    return this.#next({
      ...context,
      // A HEAD is served from the response to a GET, which other callers can use too.
      method: plan.storeAs === null ? method : 'GET',
      rawHeaders: forOthers ? withValidators(rawHeaders, plan.existing) : rawHeaders,
      disconnect,
      fetch: plan,
      waitTerms: terms,
    });
  }

  #finish(context: E, miss: Miss, plan: FetchPlan, result: Result): Result {
    const stale = this.#responses.fallback(context, miss, result);
    if (stale !== null) return stale;
    if (result.kind === 'rejection') return result;
    const { entry, stored, revalidated } = plan;
    const status = forwardStatus(miss.reason, `${stored ? '; stored' : ''}${revalidated ? '; fwd-status=304' : ''}`);
    if (entry !== null && (revalidated || isNotModified(context.headers, entry))) {
      return this.#responses.forwarded(context, entry, status);
    }
    const etag = entry?.generatedEtag ?? null;
    result.headers.push(...(etag === null ? [] : ['ETag', etag]), 'Cache-Status', status);
    return result;
  }

  /** A response that another replica has stored since the existing one became stale. */
  async #findFresher(context: E, { reason, existing, fetchKey }: Miss): Promise<StoredResponse | null> {
    if (existing === null || reason !== 'stale') return null;
    return findFresher(this.#options, context, fetchKey, existing);
  }

  #isFresh(entry: StoredResponse, { directives }: Miss): boolean {
    return evaluate(ageOf(entry, this.#options.clock.monotonic()), entry.freshForMs, directives) === 'fresh';
  }

  /** Waits until the promise settles, the caller disconnects, or the upstream's timeout is over. */
  #waitFor<T>({ disconnect, route }: E, promise: Promise<T>): Promise<T | 'disconnected' | 'timeout'> {
    const terms = { clock: this.#options.clock, disconnect, ms: route.upstream.timeoutMs };
    let cancel = (): void => {};
    const over = new Promise<'disconnected' | 'timeout'>((resolve) => {
      cancel = onTimeoutOrDisconnect(terms, resolve);
    });
    return Promise.race([promise, over]).finally(cancel);
  }
}

function sharedPlan(miss: Miss): FetchPlan {
  return { storeAs: miss, shared: true, existing: miss.existing, ...NOT_FETCHED };
}

/** Reads a body without a caller to its end, or until it is too large to be stored. */
async function drain(body: Readable, limitBytes: number): Promise<void> {
  let bytes = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limitBytes) return;
    }
  } catch {
    // It broke off: there is nothing to store.
  }
}
