import type { Readable } from 'node:stream';
import type { Clock, EpochMs, MonotonicMs } from './clock.ts';
import type { Meter, Span, SpanName } from './ports.ts';
import type { ProblemCode } from './problem.ts';

/**
 * A request on its way through the pipeline. Middleware is `(options) => (next) => handler`. Its type names what it needs of the context
 * and what it adds, so a middleware that needs a tenant does not compile before the one that finds it:
 *
 *     RequestContext → Routed → Authenticated → Admitted
 *
 * The context is one object that grows (see {@link extend}): the server logs the record of a request that was rejected half-way.
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
  readonly body: RequestBody | null;
  /** Address of the caller, after trusted proxies. */
  readonly clientAddress: string;
  /** URIs of the client certificate of the connection, which an authority of the port has signed. */
  readonly certificateUris: readonly string[];
  /** Scheme and host that the caller used, `http://host`, for links that lead through the gateway. */
  readonly baseUrl: string;
  readonly receivedAt: EpochMs;
  readonly startedAt: MonotonicMs;
  readonly disconnect: ClientDisconnect;
  readonly lifetime: RequestLifetime;
  /** Once sent, the request is completed even if its client disconnects, because its response is stored. */
  readonly completeAfterDisconnect?: boolean;
  readonly record: AccessRecord;
  readonly trace: Span | null;
}

/** A request body that has not been read yet. */
export interface RequestBody {
  /** The `Content-Length` in bytes, or null for a chunked body. */
  readonly declaredBytes: number | null;
  /** The whole body, if it is in memory already. */
  readonly bytes?: Buffer;
  /**
   * Starts reading; call it once. Only now does a caller that waits for `100 Continue` start to upload, so a rejected request uploads
   * nothing. The stream fails with {@link BodyTooLarge} when more than the limit arrives.
   */
  open(): Readable;
}

export class BodyTooLarge extends Error {
  override readonly name = 'BodyTooLarge';
}

/** Whether the client closed its connection before the end of the response. Cheaper than an AbortSignal for each request. */
export interface ClientDisconnect {
  readonly happened: boolean;
  /** Calls `run` once when the client disconnects, or at once if it already has. Returns a function that cancels this. */
  onDisconnect(run: () => void): () => void;
}

/** The client disconnect of a request, as middleware see it, and the end of its response. */
export class DisconnectSignal implements ClientDisconnect, RequestLifetime {
  #happened = false;
  #listeners: Set<() => void> | null = null;
  #ended = false;
  #atEnd: (() => void)[] = [];

  get happened(): boolean {
    return this.#happened;
  }

  onDisconnect(run: () => void): () => void {
    if (this.#happened) {
      run();
      return () => {};
    }
    this.#listeners ??= new Set();
    this.#listeners.add(run);
    return () => this.#listeners?.delete(run);
  }

  /** The client has disconnected. */
  leave(): void {
    if (this.#happened) return;
    this.#happened = true;
    const listeners = this.#listeners;
    this.#listeners = null;
    if (listeners !== null) for (const run of listeners) run();
  }

  onEnd(run: () => void): void {
    if (this.#ended) run();
    else this.#atEnd.push(run);
  }

  /** The response has ended, or its connection is gone. */
  end(): void {
    this.#ended = true;
    for (const run of this.#atEnd.splice(0)) run();
  }
}

/** Calls `run` after `ms`, or when the client disconnects, perhaps at once. Call the returned function when either has happened. */
export function onTimeoutOrDisconnect(
  { clock, ms, disconnect }: { readonly clock: Clock; readonly ms: number; readonly disconnect: ClientDisconnect },
  run: (why: 'timeout' | 'disconnected') => void,
): () => void {
  const cancelTimer = clock.after(ms, () => run('timeout'));
  const stopListening = disconnect.onDisconnect(() => run('disconnected'));
  return () => {
    cancelTimer();
    stopListening();
  };
}

/** For work that goes on without its caller. */
export const NEVER_DISCONNECTS: ClientDisconnect = { happened: false, onDisconnect: () => () => {} };

/** For what a response holds until its last byte is with the kernel. */
interface RequestLifetime {
  /** Calls `run` once when the response has ended or its connection is gone, or at once if that has happened. */
  onEnd(run: () => void): void;
}

/** Flat `name, value, name, value`: the form of Node and undici, in order and with duplicates. */
export type HeaderList = string[];

/** A body in memory, a stream with back-pressure, or none. Destroying the stream releases its source. */
export type ResponseBody = Buffer | Readable | null;

/** A response of the upstream, of the cache, or of an earlier request with the same Idempotency-Key. */
export interface ProxyResponse {
  readonly kind: 'response';
  readonly status: number;
  /** Outer middleware adds headers in place, so no two responses may share the list. */
  readonly headers: HeaderList;
  readonly body: ResponseBody;
  /** The upstream's body has neither length nor chunks: it may be a part of one, and is not stored. */
  readonly endsWithConnection?: boolean;
}

/** A rejection by the gateway itself. The server renders it as a problem document. */
export interface Rejection {
  readonly kind: 'rejection';
  readonly code: ProblemCode;
  /** Public text in place of the one in the table of problems. */
  readonly detail?: string;
  /** For the log only. It may contain hosts and error messages, never a secret. */
  readonly internal?: string;
  readonly headers?: HeaderList;
  /** Whole seconds, already rounded up. */
  readonly retryAfterSeconds?: number;
}

export type Result = ProxyResponse | Rejection;

/** How long after the gateway gave up on a request it may still arrive upstream: the kernel or a proxy may hold it. */
export const LATE_ARRIVAL_MS = 15_000;

/** Rejects only for internal errors. */
export type Handler<Context> = (context: Context) => Promise<Result>;

/** Makes a handler of `In` from a handler that needs more: `Out`. */
export type Middleware<In, Out extends In> = (next: Handler<Out>) => Handler<In>;

export interface WaitTerms {
  /** An upper bound in milliseconds besides the tenant's own. */
  readonly maxWaitMs: number;
  /** Milliseconds it has already waited for another request to the same resource. */
  readonly waitedMs: number;
  /** No caller waits for this request, so it must leave the last slots to others. */
  readonly background: boolean;
}

export interface WithWaitTerms {
  readonly waitTerms: WaitTerms;
}

export const DEFAULT_WAIT_TERMS: WaitTerms = { maxWaitMs: Number.POSITIVE_INFINITY, waitedMs: 0, background: false };

/** The fields of a request in the access log and the metrics. Each middleware writes its own; only the server reads them. */
export class AccessRecord {
  /** A resource or the path of a route, never that of a request: as a label, paths would have unbounded values. */
  route = '';
  /** A configured tenant, or '' before authentication. */
  tenant = '';
  /** Id of the tenant's key or identity, not the key. */
  key = '';
  /** The account of the route, or '' before it is known. */
  account = '';
  /** Equal for queries that mean the same; nothing of the query can be read from it. '' without a query. */
  queryDigest = '';
  /** From `Priority`; null where the caller sent none. */
  urgency: number | null = null;
  /** From `Prefer: wait`; null where the caller sent none. */
  preferredWaitMs: number | null = null;
  cache: CacheResult = 'none';
  /** It is `bypass` because of the request, not because of a rule. */
  bypassedByRequest = false;
  /** A stale response was served, and a request in the background began to renew it. */
  refreshed = false;
  /** Milliseconds spent waiting for slots and permits. */
  waitMs = 0;
  /** Milliseconds from sending to the headers of the response, summed over all attempts; null if nothing was sent. */
  upstreamMs: number | null = null;
  /** Status of the latest response from the upstream; null without one. */
  upstreamStatus: number | null = null;
  /** Attempts sent to the upstream, the one that is under way included. */
  attempts = 0;
  /** Problem code of a limit that is observed and would have rejected the request; null without one. */
  wouldReject: ProblemCode | null = null;
}

type CacheResult = 'hit' | 'stale' | 'miss' | 'collapsed' | 'bypass' | 'none';

/** A request whose response has ended, or whose caller has disconnected. */
export interface FinishedRequest {
  readonly context: Pick<
    RequestContext,
    'requestId' | 'method' | 'target' | 'baseUrl' | 'clientAddress' | 'record' | 'trace'
  >;
  /** 499 where the caller disconnected before there was a response; `code` is `client_closed` then. */
  readonly status: number;
  /** Problem code of a rejection; null for a response. */
  readonly code: ProblemCode | null;
  readonly bytes: number;
  /** The connection closed before the response was complete. */
  readonly aborted: boolean;
  readonly durationMs: number;
  /** The cause of a rejection that only the log may name. */
  readonly internal: string | null;
}

/** Notes, once for a request, that a limit which is observed and not enforced would have rejected it. */
export function noteWouldReject(
  { record, tenant }: { readonly record: AccessRecord; readonly tenant: { readonly id: string } },
  code: ProblemCode,
  meter: Pick<Meter, 'wouldReject'>,
): void {
  if (record.wouldReject !== null) return;
  record.wouldReject = code;
  meter.wouldReject(tenant.id, code);
}

const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** Whether a request with this method changes nothing (RFC 9110 section 9.2.1). A method that the gateway does not know may. */
export function isSafe(method: string): boolean {
  return SAFE.has(method);
}

/** Adds to the context in place. Returns the same object under its richer type. */
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

/** The headers of a flat list whose name in lower case, and value, pass. */
export function filterHeaders(
  list: readonly string[],
  keep: (lowerName: string, value: string) => boolean,
): HeaderList {
  const kept: HeaderList = [];
  for (let i = 0; i < list.length; i += 2) {
    const [name, value] = [list[i] as string, list[i + 1] as string];
    if (keep(name.toLowerCase(), value)) kept.push(name, value);
  }
  return kept;
}

/** Records a span for pending work. A result that is already there gets none. */
export async function traced<T>(trace: Span | null, name: SpanName, result: T | Promise<T>): Promise<T> {
  if (trace === null || !(result instanceof Promise)) return result;
  const span = trace.start(name);
  try {
    const value = await result;
    span.end();
    return value;
  } catch (error) {
    span.end({ error: 'failed' });
    throw error;
  }
}
