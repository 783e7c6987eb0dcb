import { Readable } from 'node:stream';
import type { MonotonicMs } from '../clock.ts';
import { type Answer, answer, type Handler, type Outcome, refuse, type Stage } from '../exchange.ts';
import { timed } from '../observe.ts';
import { isUntouched, keep } from './answers.ts';
import { type Collected, collect, exactCopy } from './collect.ts';
import { freshened, tagOf } from './entity.ts';
import type { Flight, HowLanded } from './flights.ts';
import { lifetimeOf } from './lifetime.ts';
import { malformedFields } from './malformed.ts';
import type { Boarded, Cacheable, CacheOptions, Fetching } from './options.ts';
import { ageOf, type StoredAnswer } from './store.ts';
import { fieldsOf, storedHeaders } from './stored.ts';

/** A request that is paid for. */
export interface Sendable extends Cacheable, Fetching {
  readonly slot: { refund(): void };
}

/** How long a key is remembered whose answer was of use to nobody else. */
const LONE_MS = 120_000;

/**
 * Below the quota: departs with the slot it was given, unless another flight for the same key has departed by now, and stores
 * the answer on its way up.
 */
export function fetchAnswers<E extends Sendable>(options: CacheOptions): Stage<E, E> {
  return (next) => (exchange) => {
    const { into, shared } = exchange.fetch;
    if (into === null) return next(exchange);
    if (shared) return lead(options, exchange, into.flight, next);
    const asked = askedNow(options, exchange, null);
    const outcome = next(exchange);
    return outcome instanceof Promise
      ? outcome.then((arrived) => settle(options, exchange, asked, arrived))
      : settle(options, exchange, asked, outcome);
  };
}

async function lead<E extends Sendable>(
  options: CacheOptions,
  exchange: E,
  key: string,
  next: Handler<E>,
): Promise<Outcome> {
  const { flights, drops, others } = options;
  if (flights.underWay(key) !== undefined) return turnBack(exchange);
  const flight = flights.depart(key, drops.latest(exchange.route.upstream.account), exchange.trace);
  flight.company.join(exchange.hangUp);
  // From here on whoever waits for a slot for the same waits for this flight.
  flights.recallOthers(key, exchange.notes.tenant);
  try {
    const landed = flight.landed.then(({ kind }) => kind);
    const boarded =
      others === null ? ALONE : await timed(exchange.trace, 'board', others.board(key, flight.since, landed));
    if (boarded.kind === 'theirs') {
      flight.trace = null;
      void landWith(options, flight, key, boarded.landed);
      return turnBack(exchange);
    }
    const entry = boarded.stored ? await freshIn(options, exchange, key) : null;
    if (entry !== null) {
      flight.land({ kind: 'stored', entry, key, fields: [] });
      return turnBack(exchange);
    }
    const asked = askedNow(options, exchange, flight);
    const outcome = await next({ ...exchange, hangUp: flight.company });
    return settle(options, exchange, asked, outcome);
  } catch (error) {
    flight.land({ kind: 'failed' });
    throw error;
  }
}

const ALONE: Boarded = { kind: 'ours', stored: false };

/** A fresh answer that another replica has stored since this one looked. */
async function freshIn(options: CacheOptions, exchange: Cacheable, key: string): Promise<StoredAnswer | null> {
  const entry = await options.store.beyond(key);
  if (entry?.kind !== 'answer' || !isUntouched(options, exchange, entry)) return null;
  return ageOf(entry, options.clock.monotonic()) < entry.freshForMs ? entry : null;
}

/** Nothing was sent: the slot is free again, and the caller waits like everybody else. */
function turnBack({ slot, fetch }: Sendable): Outcome {
  slot.refund();
  fetch.turnedBack = true;
  return refuse('internal', { internal: 'another request for the same was sent first' });
}

/** Lands as the flight of another replica does. */
async function landWith(
  { store }: CacheOptions,
  flight: Flight,
  key: string,
  theirs: Promise<HowLanded>,
): Promise<void> {
  try {
    const how = await theirs;
    const entry = how === 'stored' ? await store.get(key) : undefined;
    if (entry?.kind === 'answer') flight.land({ kind: 'stored', entry, key, fields: [] });
    // Stored and not to be found: it varies, was dropped, or replicas can not see what was too large for Redis.
    else flight.land({ kind: how === 'stored' ? 'again' : how });
  } catch {
    flight.land({ kind: 'again' });
  }
}

/** What is known of a request when it is sent. */
interface Asked {
  readonly at: MonotonicMs;
  /** The latest write of the account at that time. */
  readonly since: number;
  readonly flight: Flight | null;
}

function askedNow({ clock, drops }: CacheOptions, exchange: Cacheable, flight: Flight | null): Asked {
  return { at: clock.monotonic(), since: drops.latest(exchange.route.upstream.account), flight };
}

function settle(options: CacheOptions, exchange: Sendable, asked: Asked, arrived: Outcome): Outcome {
  const { flight } = asked;
  if (arrived.kind === 'refusal') {
    flight?.land({ kind: flight.company.happened ? 'again' : 'failed' });
    return arrived;
  }
  const { fetch } = exchange;
  if (arrived.status === 304 && fetch.held !== null) return confirm(options, exchange, asked, arrived, fetch.held);
  const storing = planStoring(options, exchange, asked, arrived);
  if (storing !== null) return keepAndPass(options, exchange, asked, arrived, storing);
  // Neither an error nor a 304 to a condition of the caller's own says anything of the answers to come.
  if (arrived.status < 500 && arrived.status !== 304 && fetch.into !== null)
    options.lone.add(fetch.into.flight, LONE_MS);
  flight?.land({ kind: arrived.status >= 500 ? 'failed' : 'alone' });
  return arrived;
}

/** What is held is right: it is stored anew with what the 304 says, and is the answer. */
function confirm(
  options: CacheOptions,
  exchange: Sendable,
  asked: Asked,
  arrived: Answer,
  held: StoredAnswer,
): Outcome {
  if (arrived.body instanceof Readable) arrived.body.destroy();
  const { fetch } = exchange;
  const full = answer(held.status, freshened(held.headers, arrived.headers), held.body);
  fetch.confirmed = true;
  const entry = planStoring(options, exchange, asked, full)?.store(held.body) ?? null;
  if (entry === null) asked.flight?.land({ kind: 'alone' });
  fetch.stored = entry !== null;
  const now = options.clock.monotonic();
  fetch.entry = entry ?? { ...held, headers: storedHeaders(full.headers, fieldsOf(full.headers)), arrivedAt: now };
  return full;
}

interface Storing {
  /** Null for a body that does not declare its length. */
  readonly declaredBytes: number | null;
  /** Stores the whole body, if that is still right by then; else null. */
  store(body: Buffer): StoredAnswer | null;
}

/** Null: the answer may not be stored, or is known to be too large. */
function planStoring(
  options: CacheOptions,
  exchange: Sendable,
  { at, since, flight }: Asked,
  arrived: Answer,
): Storing | null {
  const { into } = exchange.fetch;
  if (into === null) return null;
  const { status, body } = arrived;
  const fields = fieldsOf(arrived.headers);
  const { account } = exchange.route.upstream;
  // What was held was counted when it came.
  if (!exchange.fetch.confirmed)
    for (const field of malformedFields(fields)) options.meter.upstreamFieldMalformed(account, field);
  const now = options.clock.now();
  const arrivedAt = options.clock.monotonic();
  const { upstreamMs } = exchange.notes;
  const authorised = exchange.headers['authorization'] !== undefined;
  const lifetime = lifetimeOf({ status, fields, now, upstreamMs, authorised }, into.rule);
  if (lifetime === null) return null;
  const declared = fields.get('content-length');
  const declaredBytes = Buffer.isBuffer(body) ? body.length : declared === undefined ? null : Number(declared);
  if (declaredBytes !== null && !(declaredBytes <= options.maxEntryBytes)) return null;
  const { initialAgeMs, freshForMs, stale } = lifetime;
  const tags = into.rule?.store === true ? into.rule.tags : [];
  const target = { segments: exchange.segments, tags };
  // Before the answer goes on: stages further out add fields of their own to its list.
  const headers = storedHeaders(arrived.headers, fields);
  const store = (whole: Buffer): StoredAnswer | null => {
    const keepMs = lifetime.keepMs - (options.clock.monotonic() - arrivedAt);
    // Whoever was under way during a write may have seen the state before it.
    if (keepMs <= 0 || !options.drops.untouchedSince(account, target, since)) return null;
    const entry: StoredAnswer = {
      ...{ kind: 'answer', status, headers, body: whole, tags },
      ownTag: fields.has('etag') || status !== 200 ? null : tagOf(whole),
      ...{ storedAt: now, arrivedAt, askedAt: at, initialAgeMs, freshForMs, stale },
      clearedUpTo: since,
    };
    const kept = keep(options, exchange, into.key, fields, entry, keepMs);
    options.lone.delete(into.flight);
    options.failing.delete(into.flight);
    flight?.land({ kind: 'stored', entry, ...kept });
    return entry;
  };
  return { declaredBytes, store };
}

/** Stores the body once the whole of it is here, and passes it on meanwhile. */
function keepAndPass(
  options: CacheOptions,
  { fetch }: Sendable,
  { flight }: Asked,
  arrived: Answer,
  storing: Storing,
): Answer {
  const { body } = arrived;
  if (!(body instanceof Readable)) {
    const whole = body ?? Buffer.alloc(0);
    fetch.entry = storing.store(exactCopy([whole], whole.length));
    fetch.stored = fetch.entry !== null;
    if (fetch.entry === null) flight?.land({ kind: 'alone' });
    return arrived;
  }
  const company = flight?.company ?? null;
  let stopListening = (): void => {};
  const passed: Collected = collect(body, {
    limitBytes: options.maxEntryBytes,
    declaredBytes: storing.declaredBytes,
    whole: (bytes) => {
      stopListening();
      if (bytes !== null && storing.store(bytes) !== null) return;
      flight?.land({ kind: company?.happened === true ? 'again' : 'alone' });
    },
    left: () => company !== null && !company.happened,
  });
  // They may all have left by now: then it is given up at once.
  stopListening = company?.onHangUp(() => passed.abandon()) ?? stopListening;
  // Whether it will be whole and small enough is not known when the headers leave: only a declared size can tell.
  fetch.stored = storing.declaredBytes !== null;
  return answer(arrived.status, arrived.headers, passed);
}
