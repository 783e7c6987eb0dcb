import { Readable } from 'node:stream';
import type { MonotonicMs } from '../clock.ts';
import {
  type Answer,
  answer,
  emptyNotes,
  type Handler,
  type OnTerms,
  type Outcome,
  refuse,
  type Terms,
  USUAL_TERMS,
} from '../exchange.ts';
import { timed } from '../observe.ts';
import { fresherThan, isUntouched, lookUp } from './answers.ts';
import { coveredBy, REASONS } from './cover.ts';
import { isNotModified, withValidators } from './entity.ts';
import { awaitOthers, type Flight, type Landing, NOBODY_LEAVES, type Turn } from './flights.ts';
import { variantKey } from './key.ts';
import { type Cacheable, type CacheOptions, type Fetch, type Fetching, fetchOf, type Into } from './options.ts';
import type { CacheRule } from './rules.ts';
import type { Serve } from './serve.ts';
import { type Forward, marked } from './status.ts';
import { ageOf, type StoredAnswer } from './store.ts';
import { judge, toleratesStale, type Wishes } from './wishes.ts';

/** A request that what is stored does not answer. */
export interface Miss {
  /** What its answer is stored under. */
  readonly primary: string;
  /** See {@link Into.flight}. */
  readonly key: string;
  readonly rule: Exclude<CacheRule, { store: false }> | null;
  readonly why: Forward;
  readonly wishes: Wishes;
  /** What is stored and can not be served as it is. */
  readonly held: StoredAnswer | null;
}

export interface Misses<E> {
  fetch(exchange: E, miss: Miss): Outcome | Promise<Outcome>;
  /** Fetches anew for nobody in particular; at most once at a time, and not again at once after it was in vain. */
  refresh(exchange: E, miss: Miss): void;
  /** It could not be fetched a moment ago. */
  isFailing(key: string): boolean;
}

/** With something stale at hand, nobody waits longer than this for a slot. */
const IMPATIENCE_MS = 1_000;
/** How long a refresh is not tried again after upstream failed, or there was no slot for it. */
const FAILING_MS = 10_000;
/** Flights that came to nothing, until a request goes by itself. */
const MOST_FLIGHTS = 3;

type Lower<E> = E & Fetching & OnTerms;

export function createMisses<E extends Cacheable>(
  options: CacheOptions,
  serve: Serve,
  next: Handler<Lower<E>>,
): Misses<E> {
  const { clock, flights, lone, failing, drops } = options;

  /** Goes upstream for this caller; the answer may be stored, and others may be waiting for it. */
  const send = (exchange: E, miss: Miss, fetch: Fetch, more: Partial<Lower<E>>, terms: Terms) => {
    const { rawHeaders } = exchange;
    const forAll = fetch.shared || fetch.held !== null || (miss.rule !== null && fetch.into !== null);
    return next({
      ...exchange,
      // Whoever asks for the headers alone may have them from what all others will be given.
      method: fetch.into === null ? exchange.method : 'GET',
      rawHeaders: forAll ? withValidators(rawHeaders, fetch.held) : rawHeaders,
      ...more,
      fetch,
      terms,
    });
  };

  const finish = (exchange: E, miss: Miss, fetch: Fetch, outcome: Outcome): Outcome => {
    const stale = fallback(exchange, miss, outcome);
    if (stale !== null) return stale;
    if (outcome.kind === 'refusal') return outcome;
    const { entry } = fetch;
    if (entry === null) return marked(outcome, miss.why, fetch.stored);
    if (fetch.confirmed) return serve.forwarded(exchange, entry, miss.why, fetch.stored, 304);
    if (isNotModified(exchange.headers, entry)) return serve.forwarded(exchange, entry, miss.why, fetch.stored, null);
    const headers = entry.ownTag === null ? outcome.headers : [...outcome.headers, 'ETag', entry.ownTag];
    return marked(answer(outcome.status, headers, outcome.body), miss.why, fetch.stored);
  };

  /** What is held, in place of a failure that its windows cover. */
  const fallback = (exchange: E, miss: Miss, outcome: Outcome): Answer | null => {
    const covers = coveredBy(outcome);
    if (covers === null) return null;
    if (covers === 'staleIfErrorMs') failing.add(miss.key, FAILING_MS);
    const { held } = miss;
    if (held === null || miss.why !== 'stale' || !toleratesStale(miss.wishes)) return null;
    const staleMs = ageOf(held, clock.monotonic()) - held.freshForMs;
    if (staleMs >= held.stale[covers] || !isUntouched(options, exchange, held)) return null;
    if (outcome.kind === 'answer' && outcome.body instanceof Readable) outcome.body.destroy();
    return serve.stale(exchange, held, REASONS[covers]);
  };

  const alone = async (exchange: E, miss: Miss, into: Into | null, terms: Terms): Promise<Outcome> => {
    const fetch = fetchOf(into, false, into === null ? null : miss.held);
    return finish(exchange, miss, fetch, await send(exchange, miss, fetch, {}, terms));
  };

  /** Waits for a flight; null: it has to be asked for again. */
  const join = async (exchange: E, miss: Miss, flight: Flight): Promise<Outcome | null | 'alone'> => {
    const { timeoutMs: longestMs } = exchange.route.upstream;
    const leave = flight.company.join(exchange.hangUp);
    const span = exchange.trace?.start('join', {}, flight.trace);
    const landing = await awaitOthers(flight.landed, { clock, hangUp: exchange.hangUp, longestMs });
    span?.end();
    leave();
    if (landing === 'left') return refuse('internal', { internal: 'caller left while another fetched the same' });
    if (landing === 'late') return 'alone';
    return boarded(exchange, miss, landing);
  };

  const boarded = async (exchange: E, miss: Miss, landing: Landing): Promise<Outcome | null | 'alone'> => {
    switch (landing.kind) {
      case 'stored': {
        const own =
          landing.fields.length === 0 ? landing.key : variantKey(miss.primary, landing.fields, exchange.headers);
        const mine = own === landing.key && isUntouched(options, exchange, landing.entry);
        return mine ? serve.collapsed(exchange, landing.entry, miss.why) : 'alone';
      }
      case 'again':
        return storedMeanwhile(exchange, miss);
      case 'failed':
        return fallback(exchange, miss, refuse('upstream_unreachable')) ?? 'alone';
      case 'alone':
        return 'alone';
    }
  };

  const storedMeanwhile = async (exchange: E, miss: Miss): Promise<Outcome | null> => {
    const { entry } = await lookUp(options, exchange, miss.primary);
    const ageMs = entry === null ? 0 : ageOf(entry, clock.monotonic());
    const fresh = entry !== null && judge(ageMs, entry.freshForMs, miss.wishes) === 'fresh';
    return fresh ? serve.collapsed(exchange, entry, miss.why) : null;
  };

  /** Takes this tenant's turn to ask for a slot; null: another flight has departed meanwhile. */
  const ask = async (exchange: E, miss: Miss, into: Into | null, terms: Terms): Promise<Outcome | null> => {
    const turn: Turn = flights.takeTurn(miss.key, exchange.notes.tenant, exchange.hangUp);
    const fetch = fetchOf(into, true, miss.held);
    try {
      const outcome = await send(exchange, miss, fetch, { hangUp: turn.hangUp } as Partial<Lower<E>>, terms);
      const gaveWay = fetch.turnedBack || (turn.recalled && outcome.kind === 'refusal' && !exchange.hangUp.happened);
      return gaveWay ? null : finish(exchange, miss, fetch, outcome);
    } finally {
      turn.end();
    }
  };

  /** One request for all who ask; each waits for a slot only behind others of its own tenant. */
  const together = async (exchange: E, miss: Miss, into: Into | null, usual: Terms): Promise<Outcome> => {
    let terms = usual;
    const since = (start: MonotonicMs): Terms => ({ ...terms, waitedMs: terms.waitedMs + clock.monotonic() - start });
    for (let round = 0; round < MOST_FLIGHTS; ) {
      const flight = joinable(exchange, miss);
      if (flight !== null) {
        const joined = await join(exchange, miss, flight);
        if (joined === 'alone') break;
        if (joined !== null) return joined;
        round += 1;
        continue;
      }
      const ahead = flights.turnOf(miss.key, exchange.notes.tenant);
      let departed = true;
      if (ahead !== undefined) {
        const { timeoutMs: longestMs } = exchange.route.upstream;
        const start = clock.monotonic();
        const behind = awaitOthers(ahead.over, { clock, hangUp: exchange.hangUp, longestMs });
        const over = await timed(exchange.trace, 'wait', behind);
        terms = since(start);
        departed = ahead.departed;
        if (over === 'left') return refuse('internal', { internal: 'caller left while another asked for the same' });
        if (over === 'late') break;
      } else {
        const start = clock.monotonic();
        const outcome = await ask(exchange, miss, into, terms);
        if (outcome !== null) return outcome;
        round += 1;
        terms = since(start);
      }
      // It may have landed by now.
      const landed = departed && joinable(exchange, miss) === null;
      const stored = landed ? await storedMeanwhile(exchange, miss) : null;
      if (stored !== null) return stored;
    }
    return alone(exchange, miss, into, terms);
  };

  /** Whoever comes after a write must not be given what was asked for before it. */
  const joinable = (exchange: E, { key, rule }: Miss): Flight | null => {
    const flight = flights.underWay(key);
    if (flight === undefined) return null;
    const target = { segments: exchange.segments, tags: rule?.tags ?? [] };
    if (drops.untouchedSince(exchange.route.upstream.account, target, flight.since)) return flight;
    flights.forget(key, flight);
    return null;
  };

  const fetch = (exchange: E, miss: Miss): Outcome | Promise<Outcome> => {
    const { wishes, rule, why } = miss;
    const { headers, method } = exchange;
    // Without a rule nobody knows whether the answer may be stored: a HEAD stays what it is.
    const into =
      wishes.noStore || (method === 'HEAD' && rule === null) ? null : { key: miss.primary, flight: miss.key, rule };
    const throttled = miss.held !== null && why === 'stale' && miss.held.stale.staleIfThrottledMs > 0;
    const terms = throttled ? { ...USUAL_TERMS, patienceMs: IMPATIENCE_MS } : USUAL_TERMS;
    const conditional = headers['if-none-match'] !== undefined || headers['if-modified-since'] !== undefined;
    const own = why === 'request' || (conditional && rule === null && miss.held === null);
    return into === null || own || lone.has(miss.key)
      ? alone(exchange, miss, into, terms)
      : together(exchange, miss, into, terms);
  };

  /** Another replica may have fetched it anew since; null: nobody has. */
  const fetchedElsewhere = async (exchange: E, miss: Miss): Promise<StoredAnswer | null> =>
    miss.held === null || miss.why !== 'stale' ? null : fresherThan(options, exchange, miss.key, miss.held);

  return {
    isFailing: (key) => failing.has(key),

    fetch(exchange, miss) {
      if (miss.held === null) return fetch(exchange, miss);
      return fetchedElsewhere(exchange, miss).then((entry) => {
        const usable =
          entry !== null && judge(ageOf(entry, clock.monotonic()), entry.freshForMs, miss.wishes) === 'fresh';
        return usable ? serve.hit(exchange, entry) : fetch(exchange, miss);
      });
    },

    refresh(exchange, miss) {
      const { key, rule, primary } = miss;
      if (flights.isBusy(key) || failing.has(key)) return;
      const { route, tenant } = exchange.notes;
      const trace = exchange.trace?.start('refresh') ?? null;
      const asked = { ...exchange, trace, hangUp: NOBODY_LEAVES, notes: { ...emptyNotes(), route, tenant } };
      const terms: Terms = { ...USUAL_TERMS, patienceMs: 0, background: true };
      const into = { key: primary, flight: key, rule };
      const work = async (): Promise<void> => {
        const turn = flights.takeTurn(key, '', NOBODY_LEAVES);
        const fetch = fetchOf(into, true, miss.held);
        try {
          if ((await fetchedElsewhere(asked, miss)) !== null) return;
          const outcome = await send(asked, miss, fetch, {}, terms);
          if (outcome.kind === 'answer' && outcome.body instanceof Readable)
            await drained(outcome.body, options.maxEntryBytes);
          if (!fetch.turnedBack && coveredBy(outcome) !== null) failing.add(key, FAILING_MS);
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
