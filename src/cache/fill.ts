import { Readable } from 'node:stream';
import { type Answer, answer, type Handler, type Outcome } from '../exchange.ts';
import { variantKey } from './key.ts';
import type { Cacheable, CacheOptions } from './options.ts';
import { type CacheRule, lifetimeOf } from './policy.ts';
import { type Forward, marked } from './status.ts';
import type { StoredAnswer } from './store.ts';
import { type Fields, fieldsOf, selectingFields, storedHeaders } from './stored.ts';
import { exactCopy, tee } from './tee.ts';

/** What is needed to store the answer to a request that was passed on. */
interface Pending {
  readonly key: string;
  readonly rule: CacheRule | null;
}

/** Passes a request on and stores its answer, if that may be stored. */
export function forwarder<E extends Cacheable>(options: CacheOptions, next: Handler<E>) {
  return function forward(exchange: E, why: Forward, pending: Pending | null): Outcome | Promise<Outcome> {
    const since = options.drops.latest(exchange.route.upstream.account);
    const outcome = next(exchange);
    const pass = (arrived: Outcome): Outcome => {
      if (arrived.kind === 'refusal') return arrived;
      const storing = pending === null ? null : planStoring(options, exchange, arrived, pending, since);
      return storing === null ? marked(arrived, why, false) : keepAndPass(options, arrived, why, storing);
    };
    return outcome instanceof Promise ? outcome.then(pass) : pass(outcome);
  };
}

interface Storing {
  /** Null for a body that does not declare its length. */
  readonly declaredBytes: number | null;
  /** Stores the whole body, if that is still right by then; says whether it was. */
  store(body: Buffer): boolean;
}

function planStoring(
  options: CacheOptions,
  exchange: Cacheable,
  arrived: Answer,
  pending: Pending,
  since: number,
): Storing | null {
  const fields = fieldsOf(arrived.headers);
  const now = options.clock.now();
  const arrivedAt = options.clock.monotonic();
  const { upstreamMs } = exchange.notes;
  const lifetime = lifetimeOf({ status: arrived.status, fields, now, upstreamMs }, pending.rule);
  if (lifetime === null) return null;
  const declared = fields.get('content-length');
  const declaredBytes = Buffer.isBuffer(arrived.body)
    ? arrived.body.length
    : declared === undefined
      ? null
      : Number(declared);
  if (declaredBytes !== null && !(declaredBytes <= options.maxEntryBytes)) return null;
  const store = (body: Buffer): boolean => {
    const { account } = exchange.route.upstream;
    // A body cut short must not be served for a whole one, however it came about (RFC 9112 section 8).
    if (declaredBytes !== null && body.length !== declaredBytes) return false;
    const keepMs = lifetime.freshForMs - lifetime.initialAgeMs - (options.clock.monotonic() - arrivedAt);
    // Whoever was under way during a write may have seen the state before it.
    if (keepMs <= 0 || !options.drops.untouchedSince(account, exchange.segments, since)) return false;
    const headers = storedHeaders(arrived.headers, fields);
    const clearedUpTo = options.drops.latest(account);
    const entry = {
      kind: 'answer',
      status: arrived.status,
      headers,
      body,
      storedAt: now,
      arrivedAt,
      ...lifetime,
      clearedUpTo,
    } as const;
    keep(options, exchange, pending.key, fields, entry, keepMs);
    return true;
  };
  return { declaredBytes, store };
}

/** Stores the body once the whole of it is here, and passes it on meanwhile. */
function keepAndPass(options: CacheOptions, arrived: Answer, why: Forward, storing: Storing): Answer {
  const { body } = arrived;
  if (body instanceof Readable) {
    // Whether it will be whole and small enough is not known when the headers leave: only a declared size can tell.
    const passed = answer(arrived.status, arrived.headers, tee(body, options.maxEntryBytes, storing.store));
    return marked(passed, why, storing.declaredBytes !== null);
  }
  const whole = body ?? Buffer.alloc(0);
  return marked(arrived, why, storing.store(exactCopy([whole], whole.length)));
}

/** Under the primary key; or, if the answer varies, under that of its variant with a signpost at the primary key. */
function keep(
  options: CacheOptions,
  exchange: Cacheable,
  key: string,
  fields: Fields,
  entry: StoredAnswer,
  keepMs: number,
): void {
  const selecting = selectingFields(fields);
  if (selecting.length === 0) {
    options.store.set(key, entry, keepMs);
    return;
  }
  options.store.set(key, { kind: 'signpost', fields: selecting }, keepMs);
  options.store.set(variantKey(key, selecting, exchange.headers), entry, keepMs);
}
