import { Readable } from 'node:stream';
import type { MonotonicMs } from '../clock.ts';
import {
  DEFAULT_WAIT_TERMS,
  type Handler,
  newAccessRecord,
  type ProxyResponse,
  type Result,
  reject,
  respond,
  type WaitTerms,
  type WithWaitTerms,
} from '../context.ts';
import { traced } from '../ports.ts';
import type { CachedResponses } from './cached-response.ts';
import { type FetchResult, type InFlightFetch, NEVER_DISCONNECTS, type TenantLeader, waitFor } from './coalescing.ts';
import { variantKey } from './key.ts';
import {
  type CacheableContext,
  type CacheOptions,
  type FetchPlan,
  fetchPlan,
  type StoreTarget,
  type WithFetchPlan,
} from './options.ts';
import { acceptsStale, evaluate, type RequestDirectives } from './request-directives.ts';
import type { CacheRule } from './rules.ts';
import { fallbackWindowFor, STALE_REASONS } from './stale-fallback.ts';
import { type ForwardReason, withCacheStatus } from './status.ts';
import { ageOf, type StoredResponse } from './store.ts';
import { isNotModified, withValidators } from './validators.ts';
import { findFresher, findStored, isStillValid } from './variants.ts';

/** A request that what is stored does not answer. */
export interface Miss {
  /** What its answer is stored under. */
  readonly primary: string;
  /** See {@link StoreTarget.fetchKey}. */
  readonly key: string;
  readonly rule: Exclude<CacheRule, { store: false }> | null;
  readonly why: ForwardReason;
  readonly wishes: RequestDirectives;
  /** What is stored and can not be served as it is. */
  readonly held: StoredResponse | null;
}

export interface MissHandler<E> {
  fetch(context: E, miss: Miss): Result | Promise<Result>;
  /** Fetches anew for nobody in particular; at most once at a time, and not again at once after it was in vain. */
  refresh(context: E, miss: Miss): void;
  /** It could not be fetched a moment ago. */
  isFailing(key: string): boolean;
}

/** With something stale at hand, nobody waits longer than this for a slot. */
const IMPATIENCE_MS = 1_000;
/** How long a refresh is not tried again after upstream failed, or there was no slot for it. */
const FAILING_MS = 10_000;
/** Flights that came to nothing, until a request goes by itself. */
const MOST_FLIGHTS = 3;

type Lower<E> = E & WithFetchPlan & WithWaitTerms;

export function createMissHandler<E extends CacheableContext>(
  options: CacheOptions,
  serve: CachedResponses,
  next: Handler<Lower<E>>,
): MissHandler<E> {
  const { clock, coalescing: flights, notShareable: lone, failing, invalidations: drops } = options;

  /** Goes upstream for this caller; the answer may be stored, and others may be waiting for it. */
  const send = (context: E, miss: Miss, fetch: FetchPlan, more: Partial<Lower<E>>, terms: WaitTerms) => {
    const { rawHeaders } = context;
    const forAll = fetch.shared || fetch.existing !== null || (miss.rule !== null && fetch.storeAs !== null);
    return next({
      ...context,
      // Whoever asks for the headers alone may have them from what all others will be given.
      method: fetch.storeAs === null ? context.method : 'GET',
      rawHeaders: forAll ? withValidators(rawHeaders, fetch.existing) : rawHeaders,
      ...more,
      fetch,
      waitTerms: terms,
    });
  };

  const finish = (context: E, miss: Miss, fetch: FetchPlan, outcome: Result): Result => {
    const stale = fallback(context, miss, outcome);
    if (stale !== null) return stale;
    if (outcome.kind === 'rejection') return outcome;
    const { entry } = fetch;
    if (entry === null) return withCacheStatus(outcome, miss.why, fetch.stored);
    if (fetch.revalidated) return serve.forwarded(context, entry, miss.why, fetch.stored, 304);
    if (isNotModified(context.headers, entry)) return serve.forwarded(context, entry, miss.why, fetch.stored, null);
    const headers = entry.generatedEtag === null ? outcome.headers : [...outcome.headers, 'ETag', entry.generatedEtag];
    return withCacheStatus(respond(outcome.status, headers, outcome.body), miss.why, fetch.stored);
  };

  /** What is held, in place of a failure that its windows cover. */
  const fallback = (context: E, miss: Miss, outcome: Result): ProxyResponse | null => {
    const covers = fallbackWindowFor(outcome);
    if (covers === null) return null;
    if (covers === 'staleIfErrorMs') failing.add(miss.key, FAILING_MS);
    const { held } = miss;
    if (held === null || miss.why !== 'stale' || !acceptsStale(miss.wishes)) return null;
    const staleMs = ageOf(held, clock.monotonic()) - held.freshForMs;
    if (staleMs >= held.stale[covers] || !isStillValid(options, context, held)) return null;
    if (outcome.kind === 'response' && outcome.body instanceof Readable) outcome.body.destroy();
    return serve.stale(context, held, STALE_REASONS[covers]);
  };

  const alone = async (context: E, miss: Miss, into: StoreTarget | null, terms: WaitTerms): Promise<Result> => {
    const fetch = fetchPlan(into, false, into === null ? null : miss.held);
    return finish(context, miss, fetch, await send(context, miss, fetch, {}, terms));
  };

  /** Waits for a flight; null: it has to be asked for again. */
  const join = async (context: E, miss: Miss, flight: InFlightFetch): Promise<Result | null | 'alone'> => {
    const { timeoutMs: longestMs } = context.route.upstream;
    const leave = flight.callers.join(context.disconnect);
    const span = context.trace?.start('join', {}, flight.trace);
    const landing = await waitFor(flight.result, { clock, disconnect: context.disconnect, longestMs });
    span?.end();
    leave();
    if (landing === 'left') return reject('client_closed', { internal: 'caller left while another fetched the same' });
    if (landing === 'late') return 'alone';
    return boarded(context, miss, landing);
  };

  const boarded = async (context: E, miss: Miss, landing: FetchResult): Promise<Result | null | 'alone'> => {
    switch (landing.kind) {
      case 'stored': {
        const own =
          landing.fields.length === 0 ? landing.key : variantKey(miss.primary, landing.fields, context.headers);
        const mine = own === landing.key && isStillValid(options, context, landing.entry);
        return mine ? serve.collapsed(context, landing.entry, miss.why) : 'alone';
      }
      case 'again':
        return storedMeanwhile(context, miss);
      case 'failed':
        return fallback(context, miss, reject('upstream_unreachable')) ?? 'alone';
      case 'alone':
        return 'alone';
    }
  };

  const storedMeanwhile = async (context: E, miss: Miss): Promise<Result | null> => {
    const { entry } = await findStored(options, context, miss.primary);
    const ageMs = entry === null ? 0 : ageOf(entry, clock.monotonic());
    const fresh = entry !== null && evaluate(ageMs, entry.freshForMs, miss.wishes) === 'fresh';
    return fresh ? serve.collapsed(context, entry, miss.why) : null;
  };

  /** Takes this tenant's turn to ask for a slot; null: another flight has departed meanwhile. */
  const ask = async (context: E, miss: Miss, into: StoreTarget | null, terms: WaitTerms): Promise<Result | null> => {
    const turn: TenantLeader = flights.lead(miss.key, context.record.tenant, context.disconnect);
    const fetch = fetchPlan(into, true, miss.held);
    try {
      const outcome = await send(context, miss, fetch, { disconnect: turn.disconnect } as Partial<Lower<E>>, terms);
      const gaveWay =
        fetch.superseded || (turn.superseded && outcome.kind === 'rejection' && !context.disconnect.happened);
      return gaveWay ? null : finish(context, miss, fetch, outcome);
    } finally {
      turn.end();
    }
  };

  /** One request for all who ask; each waits for a slot only behind others of its own tenant. */
  const together = async (context: E, miss: Miss, into: StoreTarget | null, usual: WaitTerms): Promise<Result> => {
    let terms = usual;
    const since = (start: MonotonicMs): WaitTerms => ({
      ...terms,
      waitedMs: terms.waitedMs + clock.monotonic() - start,
    });
    for (let round = 0; round < MOST_FLIGHTS; ) {
      const flight = joinable(context, miss);
      if (flight !== null) {
        const joined = await join(context, miss, flight);
        if (joined === 'alone') break;
        if (joined !== null) return joined;
        round += 1;
        continue;
      }
      const ahead = flights.leaderOf(miss.key, context.record.tenant);
      let departed = true;
      if (ahead !== undefined) {
        const { timeoutMs: longestMs } = context.route.upstream;
        const start = clock.monotonic();
        const behind = waitFor(ahead.finished, { clock, disconnect: context.disconnect, longestMs });
        const over = await traced(context.trace, 'wait', behind);
        terms = since(start);
        departed = ahead.fetchStarted;
        if (over === 'left')
          return reject('client_closed', { internal: 'caller left while another asked for the same' });
        if (over === 'late') break;
      } else {
        const start = clock.monotonic();
        const outcome = await ask(context, miss, into, terms);
        if (outcome !== null) return outcome;
        round += 1;
        terms = since(start);
      }
      // It may have landed by now.
      const landed = departed && joinable(context, miss) === null;
      const stored = landed ? await storedMeanwhile(context, miss) : null;
      if (stored !== null) return stored;
    }
    return alone(context, miss, into, terms);
  };

  /** Whoever comes after a write must not be given what was asked for before it. */
  const joinable = (context: E, { key, rule }: Miss): InFlightFetch | null => {
    const flight = flights.current(key);
    if (flight === undefined) return null;
    const target = { segments: context.segments, tags: rule?.tags ?? [] };
    if (drops.isValidSince(context.route.upstream.account, target, flight.since)) return flight;
    flights.detach(key, flight);
    return null;
  };

  const fetch = (context: E, miss: Miss): Result | Promise<Result> => {
    const { wishes, rule, why } = miss;
    const { headers, method } = context;
    // Without a rule nobody knows whether the answer may be stored: a HEAD stays what it is.
    const into =
      wishes.noStore || (method === 'HEAD' && rule === null) ? null : { key: miss.primary, fetchKey: miss.key, rule };
    const throttled = miss.held !== null && why === 'stale' && miss.held.stale.staleIfThrottledMs > 0;
    const terms = throttled ? { ...DEFAULT_WAIT_TERMS, maxWaitMs: IMPATIENCE_MS } : DEFAULT_WAIT_TERMS;
    const conditional = headers['if-none-match'] !== undefined || headers['if-modified-since'] !== undefined;
    const own = why === 'request' || (conditional && rule === null && miss.held === null);
    return into === null || own || lone.has(miss.key)
      ? alone(context, miss, into, terms)
      : together(context, miss, into, terms);
  };

  /** Another replica may have fetched it anew since; null: nobody has. */
  const fetchedElsewhere = async (context: E, miss: Miss): Promise<StoredResponse | null> =>
    miss.held === null || miss.why !== 'stale' ? null : findFresher(options, context, miss.key, miss.held);

  return {
    isFailing: (key) => failing.has(key),

    fetch(context, miss) {
      if (miss.held === null) return fetch(context, miss);
      return fetchedElsewhere(context, miss).then((entry) => {
        const usable =
          entry !== null && evaluate(ageOf(entry, clock.monotonic()), entry.freshForMs, miss.wishes) === 'fresh';
        return usable ? serve.hit(context, entry) : fetch(context, miss);
      });
    },

    refresh(context, miss) {
      const { key, rule, primary } = miss;
      if (flights.isBusy(key) || failing.has(key)) return;
      const { route, tenant } = context.record;
      const trace = context.trace?.start('refresh') ?? null;
      const asked = {
        ...context,
        trace,
        disconnect: NEVER_DISCONNECTS,
        record: { ...newAccessRecord(), route, tenant },
      };
      const terms: WaitTerms = { ...DEFAULT_WAIT_TERMS, maxWaitMs: 0, background: true };
      const into = { key: primary, fetchKey: key, rule };
      const work = async (): Promise<void> => {
        const turn = flights.lead(key, '', NEVER_DISCONNECTS);
        const fetch = fetchPlan(into, true, miss.held);
        try {
          if ((await fetchedElsewhere(asked, miss)) !== null) return;
          const outcome = await send(asked, miss, fetch, {}, terms);
          if (outcome.kind === 'response' && outcome.body instanceof Readable)
            await drained(outcome.body, options.maxEntryBytes);
          if (!fetch.superseded && fallbackWindowFor(outcome) !== null) failing.add(key, FAILING_MS);
        } finally {
          turn.end();
          trace?.end();
        }
      };
      options.background(work());
    },
  };
}

/** Reads a body that nobody waits for to its end, or as far as anything is stored. */
function drained(body: Readable, limitBytes: number): Promise<void> {
  return new Promise((resolve) => {
    let bytes = 0;
    body.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > limitBytes) body.destroy();
    });
    body.once('error', () => {});
    body.once('close', resolve);
  });
}
