import type { Readable } from 'node:stream';
import type { EpochMs, MonotonicMs } from './clock.ts';
import type { Span } from './ports.ts';
import type { ProblemCode } from './problem.ts';

/**
 * What travels through the gateway, and how stages compose.
 *
 * A stage is `(options) => (next) => handler`. What it adds to the request is in its type, so a stage that needs a
 * tenant does not compile in front of the one that finds it:
 *
 *     Received → Routed → Authenticated → Admitted
 *
 * The request is one object that grows (see {@link extend}): the edge reads the notes of a request that was refused
 * half-way, and nothing is copied on the way.
 */
export interface RequestContext {
  readonly requestId: string;
  /** Upper case as received; never TRACE or CONNECT. */
  readonly method: string;
  /** The raw request target, always origin-form (`/path?query`), never normalised. */
  readonly target: string;
  /** Lower-case names, joined as Node joins them. For look-ups; {@link rawHeaders} is what gets forwarded. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Flat `name, value, name, value`, as received. */
  readonly rawHeaders: readonly string[];
  /** Null where the request has none. */
  readonly body: RequestBody | null;
  /** Address of the caller, after trusted proxies. */
  readonly clientAddress: string;
  /** `http://host` the caller used, for links that must lead back through the gateway. */
  readonly baseUrl: string;
  readonly receivedAt: EpochMs;
  readonly startedAt: MonotonicMs;
  /** Aborted when the caller hangs up before the answer is complete. */
  readonly disconnect: ClientDisconnect;
  /** Once it is sent, it is carried through though the caller may leave: somebody will ask for its answer. */
  readonly completeAfterDisconnect?: boolean;
  readonly record: AccessRecord;
  /** Null where nothing is traced. */
  readonly trace: Span | null;
}

/** A request body that has not been read yet. */
export interface RequestBody {
  /** The `Content-Length`, or null for a chunked body. */
  readonly declaredBytes: number | null;
  /** All of it, where it has been read already. */
  readonly bytes?: Buffer;
  /**
   * Starts reading; once only. A caller that waits for `100 Continue` is told to go on only now, so a refused request
   * need not upload anything. The stream fails with {@link BodyTooLarge} when more than the limit arrives.
   */
  open(): Readable;
}

/** Emitted by a request body's stream when the caller sends more than the limit. */
export class BodyTooLarge extends Error {
  override readonly name = 'BodyTooLarge';
}

/** Whether the caller has left, and a way to hear of it. Cheaper than an AbortSignal on a path where nobody leaves. */
export interface ClientDisconnect {
  readonly happened: boolean;
  /** Calls `run` once when the caller leaves (at once, if it has left); returns the cancellation. */
  onDisconnect(run: () => void): () => void;
}

/** Flat `name, value, name, value`: what Node and undici take and give, in order and with duplicates. */
export type HeaderList = string[];

/** A body in memory, one that streams with back-pressure, or none. Destroying a stream frees what feeds it. */
export type ResponseBody = Buffer | Readable | null;

/** An answer to pass on: the upstream's, or one from cache. */
export interface ProxyResponse {
  readonly kind: 'response';
  readonly status: number;
  /** Of this answer alone: stages further out add to it. */
  readonly headers: HeaderList;
  readonly body: ResponseBody;
}

/** A refusal of the gateway's own; rendered once, at the edge. */
export interface Rejection {
  readonly kind: 'rejection';
  readonly code: ProblemCode;
  /** Public text in place of the table's, where more can be said. */
  readonly detail?: string;
  /** For the log only; may name hosts and errors, never a secret. */
  readonly internal?: string;
  readonly headers?: HeaderList;
  /** Whole seconds, rounded up by whoever computed it. */
  readonly retryAfterSeconds?: number;
}

export type Result = ProxyResponse | Rejection;

export type Handler<In> = (context: In) => Promise<Result>;

/** A stage turns the handler of a richer request into the handler of a poorer one. */
export type Middleware<In, Out extends In> = (next: Handler<Out>) => Handler<In>;

/** On what terms a request asks for a slot. */
export interface WaitTerms {
  /** It waits no longer than this for one, whatever the tenant may. */
  readonly maxWaitMs: number;
  /** How long it has waited already, behind others who asked for the same. */
  readonly waitedMs: number;
  /** Nobody waits for it: it takes none of the last slots. */
  readonly background: boolean;
}

export interface WithWaitTerms {
  readonly waitTerms: WaitTerms;
}

export const DEFAULT_WAIT_TERMS: WaitTerms = { maxWaitMs: Number.POSITIVE_INFINITY, waitedMs: 0, background: false };

/** What the access log and the metrics will say of a request. Every stage writes its own lines; only the edge reads. */
export interface AccessRecord {
  /** A route's template, never a path: a label with unbounded values would break the metrics. */
  route: string;
  /** A tenant of the configuration, or '' before authentication. */
  tenant: string;
  /** Which of the tenant's keys was used (its id, not the key). */
  key: string;
  cache: CacheResult;
  /** Time spent waiting for a slot. */
  waitMs: number;
  /** From sending to the headers of the answer, all attempts together; null if nothing was sent. */
  upstreamMs: number | null;
  /** Status of the last answer from upstream; null if none. */
  upstreamStatus: number | null;
  /** How often the request was sent. */
  attempts: number;
}

export type CacheResult = 'hit' | 'stale' | 'miss' | 'collapsed' | 'bypass' | 'none';

export function newAccessRecord(): AccessRecord {
  return {
    route: '',
    tenant: '',
    key: '',
    cache: 'none',
    waitMs: 0,
    upstreamMs: null,
    upstreamStatus: null,
    attempts: 0,
  };
}

/** Grows the request in place: the result is the same object under a richer type. */
export function extend<Base extends object, Added extends object>(base: Base, added: Added): Base & Added {
  return Object.assign(base, added);
}

export function respond(status: number, headers: HeaderList, body: ResponseBody): ProxyResponse {
  return { kind: 'response', status, headers, body };
}

export function reject(code: ProblemCode, more: Omit<Rejection, 'kind' | 'code'> = {}): Rejection {
  return { kind: 'rejection', code, ...more };
}

/** First value of a header in a flat list; `lowerName` must be lower case. */
export function headerOf(list: readonly string[], lowerName: string): string | undefined {
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] as string;
    if (name.length === lowerName.length && (name === lowerName || name.toLowerCase() === lowerName)) {
      return list[i + 1];
    }
  }
  return undefined;
}
