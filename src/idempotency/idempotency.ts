import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import type { HeldMemory } from '../body-memory.ts';
import {
  extend,
  type Handler,
  type HeaderList,
  isSafe,
  type Middleware,
  type Rejection,
  type RequestBody,
  type RequestContext,
  type Result,
  reject,
  respond,
  traced,
} from '../context.ts';
import type { Log, Meter } from '../ports.ts';
import { mayBeCarriedOut } from '../problem.ts';
import { type ReadableContext, type ReadBodyOptions, readRequestBody, whileHeld } from '../read-body.ts';
import { captureResponse } from './response-capture.ts';
import type { BeginResult, IdempotencyStore, KeyedWrite, WriteOutcome } from './store.ts';

interface KeyableContext extends ReadableContext {
  readonly path: string;
  readonly canonicalQuery: string;
  readonly route: { readonly upstream: { readonly account: string; readonly timeoutMs: number } };
}

interface IdempotencyOptions extends ReadBodyOptions {
  readonly store: IdempotencyStore;
  /** A larger response goes to the caller, and its body is not recorded. */
  readonly maxResponseBytes: number;
  readonly meter: Meter;
  readonly log: Log;
}

/** Time for a write besides its two attempts: the wait for a slot, the upload, a login. */
const LEASE_MARGIN_MS = 60_000;

/**
 * Makes a write with an Idempotency-Key safe to repeat. The first write of a tenant with a key is sent, and completes even if its
 * caller disconnects. Every repeat gets its response; 409 while it is in progress; or 504 where its outcome is unknown. None of
 * them is sent again.
 */
export function idempotency<E extends KeyableContext>(options: IdempotencyOptions): Middleware<E, E> {
  const { store, meter } = options;
  const outcomes = createOutcomeRecorder(options);

  return (next) => async (context) => {
    const given = readIdempotencyKey(context);
    if (given.kind === 'none') return next(context);
    if (given.kind === 'malformed') return reject('bad_request', { detail: given.detail });
    const read = await readWhole(options, context);
    if (read.kind === 'rejection') return read;
    const response = options.bodyMemory.open(context.tenant.id);
    return whileHeld([read.held, response], async () => {
      const write = keyedWrite(context, given.key, read.body);
      const begun = await traced(context.trace, 'idempotency begin', store.begin(write));
      meter.idempotency(begun.kind === 'replay' ? 'replayed' : begun.kind);
      if (begun.kind === 'first')
        return sendFirst(options, outcomes, { context, write, body: read.body, response }, next);
      if (begun.kind === 'replay') meter.requestAvoided(context.tenant.id, 'replay');
      // The store may have begun the write, although its reply was lost.
      if (begun.kind === 'unavailable') outcomes.recordLater(write, { kind: 'released' });
      return replay(begun);
    });
  };
}

interface FirstWrite<E> {
  readonly context: E;
  readonly write: KeyedWrite;
  readonly body: Buffer | null;
  /** Memory for the response. */
  readonly response: HeldMemory;
}

async function sendFirst<E extends KeyableContext>(
  { maxResponseBytes }: IdempotencyOptions,
  outcomes: OutcomeRecorder,
  { context, write, body, response }: FirstWrite<E>,
  next: Handler<E>,
): Promise<Result> {
  let result: Result;
  try {
    result = await next(extend(context, { body: inMemory(body), completeAfterDisconnect: true }));
  } catch (error) {
    await outcomes.record(write, { kind: 'unknown' });
    throw error;
  }
  if (result.kind === 'rejection') {
    await outcomes.record(write, {
      kind: mayBeCarriedOut(result.code, context.record.attempts) ? 'unknown' : 'released',
    });
    return result;
  }
  const captured = await captureResponse(result, maxResponseBytes, response);
  await outcomes.record(write, captured.outcome);
  return captured.result;
}

const RETRY_MS = 1_000;
const MAX_RETRIES = 30;

type OutcomeRecorder = ReturnType<typeof createOutcomeRecorder>;

/** Stores the outcome of a write before its response goes out; if the store fails, it retries in the background. */
function createOutcomeRecorder({ store, clock, log }: IdempotencyOptions) {
  const retry = async (write: KeyedWrite, outcome: WriteOutcome, retries: number): Promise<void> => {
    const stored = await store.complete(write, outcome);
    if (!stored && retries > 1) recordLater(write, outcome, retries - 1);
  };
  const recordLater = (write: KeyedWrite, outcome: WriteOutcome, retries = MAX_RETRIES): void => {
    clock.after(RETRY_MS, () => void retry(write, outcome, retries));
  };
  const record = async (write: KeyedWrite, outcome: WriteOutcome): Promise<void> => {
    if (await store.complete(write, outcome)) return;
    log.warn({ account: write.account }, 'idempotency record could not be stored, retrying');
    recordLater(write, outcome);
  };
  return { record, recordLater };
}

const REPLAYED: HeaderList = ['Idempotency-Replayed', 'true'];

function replay(begun: Exclude<BeginResult, { kind: 'first' }>): Result {
  switch (begun.kind) {
    case 'conflict':
      return reject('idempotency_conflict', { retryAfterSeconds: 1 });
    case 'mismatch':
      return reject('idempotency_mismatch');
    case 'unavailable':
      return reject('state_unavailable', {
        detail:
          'The gateway cannot check whether a request with this Idempotency-Key was sent before. Nothing was sent: repeat the request.',
        retryAfterSeconds: 1,
      });
    case 'unknown':
    case 'broken':
      return reject('upstream_timeout', {
        detail:
          'The first request with this Idempotency-Key may have been carried out: its outcome is not known. It was not sent again. Check whether it was carried out before you use a new key.',
        headers: [...REPLAYED],
        internal:
          begun.kind === 'broken'
            ? 'the idempotency record cannot be read'
            : 'the outcome of the first request is not known',
      });
    case 'replay': {
      const { status, headers, body } = begun.response;
      const bodiless = status === 204 || status === 304;
      if (body !== null) return respond(status, [...headers, ...REPLAYED], bodiless ? null : body);
      return reject('idempotency_conflict', {
        detail: `The first request with this Idempotency-Key was carried out, with status ${status}. The body of its response is not stored: it was too large, or there was no room for it.`,
        headers: [...REPLAYED],
      });
    }
  }
}

type ReadWhole = { readonly kind: 'read'; readonly body: Buffer | null; readonly held: HeldMemory } | Rejection;

/** Reads the whole body: the fingerprint must be known before anything is sent. */
async function readWhole(options: IdempotencyOptions, context: KeyableContext): Promise<ReadWhole> {
  const { bodyMemory } = options;
  if (context.body === null) return { kind: 'read', body: null, held: bodyMemory.open(context.tenant.id) };
  const read = await readRequestBody(options, context, bodyMemory.largestBytes);
  if (read.kind !== 'larger') return read;
  read.held.release();
  return reject('body_too_large', {
    detail: `With an Idempotency-Key, the gateway keeps the whole body in memory, and accepts ${bodyMemory.largestBytes} bytes at most.`,
  });
}

function inMemory(bytes: Buffer | null): RequestBody | null {
  if (bytes === null) return null;
  return { declaredBytes: bytes.length, bytes, open: () => Readable.from([bytes]) };
}

function keyedWrite(context: KeyableContext, key: string, body: Buffer | null): KeyedWrite {
  const { method, path, canonicalQuery, headers, tenant, route } = context;
  const { account, timeoutMs } = route.upstream;
  const request = [method, path, canonicalQuery, String(headers['content-type'] ?? ''), ''].join('\n');
  return {
    account,
    tenant: digest(tenant.id),
    id: digest(`${tenant.id}\n${key}`),
    fingerprint: digest(request, body ?? ''),
    owner: randomUUID(),
    leaseMs: 2 * timeoutMs + LEASE_MARGIN_MS,
  };
}

function digest(...parts: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('base64url');
}

type IdempotencyKey =
  | { readonly kind: 'none' }
  | { readonly kind: 'key'; readonly key: string }
  | { readonly kind: 'malformed'; readonly detail: string };

const MAX_KEY_LENGTH = 255;
/** No spaces: a proxy joins two fields with a space, and the result must not look like one key. */
const VISIBLE_ASCII = /^[\x21-\x7e]+$/;
/** A string of structured fields (RFC 9651 section 3.3.3): a backslash escapes only a quote or a backslash. */
const QUOTED = /^"((?:[^"\\]|\\["\\])*)"$/;

/**
 * Reads the Idempotency-Key of a write (draft-ietf-httpapi-idempotency-key-header). The draft requires a quoted string, most
 * clients send it without quotes: both are the same key. Every method that is not safe is a write; safe ones ignore the field.
 */
export function readIdempotencyKey({
  method,
  rawHeaders,
}: Pick<RequestContext, 'method' | 'rawHeaders'>): IdempotencyKey {
  if (isSafe(method)) return { kind: 'none' };
  const values: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() === 'idempotency-key') values.push((rawHeaders[i + 1] as string).trim());
  }
  const [value] = values;
  if (value === undefined) return { kind: 'none' };
  if (values.length > 1) {
    return { kind: 'malformed', detail: 'The request has several Idempotency-Key fields. Send one.' };
  }
  const key = value.startsWith('"') ? QUOTED.exec(value)?.[1]?.replace(/\\(.)/g, '$1') : value;
  if (key === undefined || !VISIBLE_ASCII.test(key) || key.length > MAX_KEY_LENGTH) {
    const detail = `The Idempotency-Key must be 1 to ${MAX_KEY_LENGTH} visible ASCII characters.`;
    return { kind: 'malformed', detail };
  }
  return { kind: 'key', key };
}
