import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Clock } from '../clock.ts';
import {
  BodyTooLarge,
  extend,
  type Handler,
  type HeaderList,
  type Middleware,
  type ProxyResponse,
  type RequestBody,
  type RequestContext,
  type Result,
  reject,
  respond,
} from '../context.ts';
import { type Log, type Meter, traced } from '../ports.ts';
import type { ProblemCode } from '../problem.ts';
import { captureBody } from './capture-body.ts';
import { readIdempotencyKey } from './idempotency-key.ts';
import type { BeginResult, IdempotencyStore, KeyedWrite, RecordedResponse, WriteOutcome } from './store.ts';

interface Replayable extends RequestContext {
  readonly tenant: { readonly id: string };
  /** Canonical. */
  readonly path: string;
  readonly canonicalQuery: string;
  readonly route: { readonly upstream: { readonly account: string; readonly timeoutMs: number } };
}

export interface IdempotencyOptions {
  readonly store: IdempotencyStore;
  /** A larger answer goes out whole, and is not kept. */
  readonly maxAnswerBytes: number;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly log: Log;
}

/** What a request may need besides two attempts upstream: the wait for a slot, the upload, a login. */
const BESIDES_MS = 60_000;
const AGAIN_MS = 1_000;
const MOST_TRIES = 30;

/**
 * Makes a write with an Idempotency-Key safe to repeat: the first of its tenant with that key is sent, all others get its
 * answer; or a conflict while it is under way; or, where nobody knows whether it was carried out, a 504 and never a second
 * start. The first one is carried through even if its caller leaves, so that a repeat finds the answer.
 */
export function idempotency<E extends Replayable>(options: IdempotencyOptions): Middleware<E, E> {
  const { store, meter, log, clock } = options;

  const first = async (context: E, claim: KeyedWrite, body: Buffer | null, next: Handler<E>): Promise<Result> => {
    meter.idempotency('first');
    let outcome: Result;
    try {
      outcome = await next(extend(context, { body: inMemory(body), completeAfterDisconnect: true }));
    } catch (error) {
      await end(claim, { kind: 'lost' });
      throw error;
    }
    if (outcome.kind === 'rejection') {
      const sent =
        !NEVER_CARRIED_OUT.has(outcome.code) && !(MAYBE_SENT.has(outcome.code) && context.record.attempts === 0);
      await end(claim, { kind: sent ? 'lost' : 'released' });
      return outcome;
    }
    const kept = await keepable(outcome, options.maxAnswerBytes);
    await end(claim, kept.ending);
    return kept.answer;
  };

  /** Before the answer goes out; what can not be noted now is noted later, and reads as under way until then. */
  const end = async (claim: KeyedWrite, ending: WriteOutcome): Promise<void> => {
    if (await store.complete(claim, ending)) return;
    log.warn(
      { account: claim.account },
      'the answer to a write with an Idempotency-Key could not be stored: it is tried again',
    );
    endLater(claim, ending, MOST_TRIES);
  };
  const endLater = (claim: KeyedWrite, ending: WriteOutcome, tries: number): void => {
    clock.after(AGAIN_MS, () => {
      void Promise.resolve(store.complete(claim, ending)).then((noted) => {
        if (!noted && tries > 1) endLater(claim, ending, tries - 1);
      });
    });
  };

  return (next) => async (context) => {
    const given = readIdempotencyKey(context);
    if (given.kind === 'none') return next(context);
    if (given.kind === 'malformed') return reject('bad_request', { detail: given.detail });
    return replay(context, given.key, next);
  };

  async function replay(context: E, key: string, next: Handler<E>): Promise<Result> {
    const read = await readWhole(context);
    if (!read.ok) return read.refusal;
    const { account, timeoutMs } = context.route.upstream;
    const claim: KeyedWrite = {
      account,
      id: digest(context.tenant.id, key),
      fingerprint: fingerprintOf(context, read.body),
      owner: randomUUID(),
      leaseMs: 2 * timeoutMs + BESIDES_MS,
    };
    const begun = await traced(context.trace, 'idempotency begin', store.begin(claim));
    if (begun.kind === 'go') return first(context, claim, read.body, next);
    meter.idempotency(begun.kind === 'replay' ? 'replayed' : begun.kind);
    if (begun.kind === 'replay') meter.requestAvoided(context.tenant.id, 'replay');
    // It may have been claimed by a command that nobody has seen the answer to.
    if (begun.kind === 'unavailable') endLater(claim, { kind: 'released' }, MOST_TRIES);
    return repeated(begun);
  }
}

const REPLAYED: HeaderList = ['Idempotency-Replayed', 'true'];

function repeated(begun: Exclude<BeginResult, { kind: 'go' }>): Result {
  switch (begun.kind) {
    case 'conflict':
      return reject('idempotency_conflict', { retryAfterSeconds: 1 });
    case 'mismatch':
      return reject('idempotency_mismatch');
    case 'unavailable':
      return reject('state_unavailable', {
        detail:
          'The gateway can not tell now whether a request with this Idempotency-Key was sent before. Nothing was sent.',
        retryAfterSeconds: 1,
      });
    case 'unknown':
    case 'broken':
      return reject('upstream_timeout', {
        detail:
          'The first request with this Idempotency-Key may have been carried out, and its outcome is not known. It was not sent again: look whether it was, before you use a new key.',
        headers: [...REPLAYED],
        internal:
          begun.kind === 'broken' ? 'what is stored for this key can not be read' : 'outcome of the first not known',
      });
    case 'replay': {
      const { status, headers, body } = begun.first;
      if (body !== null) return respond(status, [...headers, ...REPLAYED], bodiless(status) ? null : body);
      return reject('idempotency_conflict', {
        detail: `The first request with this Idempotency-Key was carried out and answered with status ${status}; the answer was too large to be kept.`,
        headers: [...REPLAYED],
      });
    }
  }
}

function bodiless(status: number): boolean {
  return status === 204 || status === 304;
}

/** Codes that say nothing about whether the request was sent: the number of attempts does. */
const MAYBE_SENT: ReadonlySet<ProblemCode> = new Set(['client_closed', 'internal']);

/** Refusals of requests that were not sent, or that upstream has refused without carrying them out. */
const NEVER_CARRIED_OUT: ReadonlySet<ProblemCode> = new Set([
  'tenant_quota',
  'account_quota',
  'queue_timeout',
  'upstream_cooldown',
  'state_unavailable',
  'breaker_open',
  'draining',
  'key_unknown',
  'tenant_disabled',
  'upstream_unreachable',
  'upstream_credentials_rejected',
  'body_too_large',
  'bad_request',
]);

async function keepable(outcome: ProxyResponse, limitBytes: number): Promise<{ answer: Result; ending: WriteOutcome }> {
  const { status, headers, body } = outcome;
  if (!(body instanceof Readable)) {
    const fits = (body?.length ?? 0) <= limitBytes;
    return { answer: outcome, ending: answered(status, headers, fits ? (body ?? Buffer.alloc(0)) : null) };
  }
  const gathered = await captureBody(body, limitBytes);
  switch (gathered.kind) {
    case 'whole': {
      const plain = without(headers, OF_ONE_ANSWER_LENGTH);
      return { answer: respond(status, plain, gathered.body), ending: answered(status, headers, gathered.body) };
    }
    case 'large':
      return { answer: respond(status, headers, gathered.body), ending: answered(status, headers, null) };
    case 'broken':
      return { answer: reject('upstream_protocol', { internal: gathered.reason }), ending: { kind: 'lost' } };
  }
}

function answered(status: number, headers: HeaderList, body: Buffer | null): WriteOutcome {
  const first: RecordedResponse = { status, headers: without(headers, OF_ONE_ANSWER), body };
  return { kind: 'answered', first };
}

/** What is set anew for each answer. Cookies, credentials and limits of the account do not come up this far. */
const OF_ONE_ANSWER: ReadonlySet<string> = new Set(['content-length', 'cache-status', 'retry-after', 'server-timing']);
const OF_ONE_ANSWER_LENGTH: ReadonlySet<string> = new Set(['content-length']);

function without(headers: HeaderList, names: ReadonlySet<string>): HeaderList {
  const kept: HeaderList = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string;
    if (!names.has(name.toLowerCase())) kept.push(name, headers[i + 1] as string);
  }
  return kept;
}

type Read =
  | { readonly ok: true; readonly body: Buffer | null }
  | { readonly ok: false; readonly refusal: ReturnType<typeof reject> };

/** The whole body, up to what any request may have: what is to be compared has to be known before anything is sent. */
async function readWhole({ body, disconnect }: RequestContext): Promise<Read> {
  if (body === null) return { ok: true, body: null };
  const stream = body.open();
  const stop = disconnect.onDisconnect(() => stream.destroy());
  try {
    const chunks: Buffer[] = [];
    for await (const chunk of stream.iterator({ destroyOnReturn: false })) chunks.push(chunk as Buffer);
    return { ok: true, body: Buffer.concat(chunks) };
  } catch (error) {
    if (error instanceof BodyTooLarge) return { ok: false, refusal: reject('body_too_large') };
    const internal = error instanceof Error ? error.message : 'unknown';
    return { ok: false, refusal: reject('bad_request', { detail: 'The request body broke off.', internal }) };
  } finally {
    stop();
  }
}

function inMemory(bytes: Buffer | null): RequestBody | null {
  if (bytes === null) return null;
  return { declaredBytes: bytes.length, bytes, open: () => Readable.from([bytes]) };
}

function fingerprintOf({ method, path, canonicalQuery, headers }: Replayable, body: Buffer | null): string {
  const hash = createHash('sha256');
  for (const part of [method, path, canonicalQuery, String(headers['content-type'] ?? '')]) hash.update(`${part}\n`);
  return hash.update(body ?? '').digest('base64url');
}

function digest(...parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('base64url');
}
