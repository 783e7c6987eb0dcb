import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Clock, MonotonicMs } from '../../clock.ts';
import { BodyTooLarge, type HeaderList } from '../../context.ts';
import type { OutboundRequest, TransportFailure, TransportResult } from '../../upstream/transport.ts';

/** Why we ended an attempt ourselves; it reaches the handler as the error of the abort. */
class Ended extends Error {
  readonly reason: TransportFailure;
  constructor(reason: TransportFailure, message: string) {
    super(message);
    this.reason = reason;
  }
}

/**
 * One request to the upstream. It resolves with a Buffer if the whole body arrives in the same turn of the event loop as the headers,
 * as nearly every JSON response does, else with a stream that pauses the socket when its reader falls behind. A chunk is never held
 * back to see whether more follows.
 */
export class Attempt implements Dispatcher.DispatchHandler {
  readonly #request: OutboundRequest;
  readonly #clock: Clock;
  readonly #resolve: (sent: TransportResult) => void;
  /** Null until undici puts the request on a connection; from then on a byte may have left. */
  #controller: Dispatcher.DispatchController | null = null;
  /** Resolved, or handed over to a stream. */
  #answered = false;
  #status = 0;
  #headers: HeaderList = [];
  #headersAt = 0 as MonotonicMs;
  #early: Buffer[] = [];
  #body: UpstreamBody | null = null;
  #complete = false;
  #timer: NodeJS.Timeout;
  #stopListening: (() => void) | null = null;
  /** Set when the attempt ended before undici put it on a connection: it must not be written any more. */
  #cancelled: Ended | null = null;

  constructor(request: OutboundRequest, clock: Clock, resolve: (sent: TransportResult) => void) {
    this.#request = request;
    this.#clock = clock;
    this.#resolve = resolve;
    this.#timer = this.#startTimer();
    if (request.disconnect)
      this.#stopListening = request.disconnect.onDisconnect(() => this.#end(new Ended('client_closed', 'caller left')));
  }

  /** The caller left before the request was handed to undici. */
  get isOver(): boolean {
    return this.#complete || this.#cancelled !== null;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // An aborted request is not written, so no byte of it has left.
    if (this.#cancelled) controller.abort(this.#cancelled);
    else this.#controller = controller;
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return;
    this.#headersAt = this.#clock.monotonic();
    this.#status = status;
    this.#headers = headerStrings(controller.rawHeaders);
    setImmediate(() => this.#startStreaming());
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#body === null) {
      this.#early.push(chunk);
      return;
    }
    this.#timer.refresh();
    if (this.#body.push(chunk)) return;
    controller.pause();
    // A slow reader is not a slow upstream: the timeout does not run while the socket is paused.
    clearTimeout(this.#timer);
  }

  onResponseEnd(): void {
    this.#complete = true;
    this.#release();
    if (this.#body !== null) {
      this.#body.push(null);
      return;
    }
    const body = this.#early.length === 1 ? (this.#early[0] as Buffer) : Buffer.concat(this.#early);
    this.#answer(hasNoBody(this.#request.method, this.#status) ? null : body);
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    this.#complete = true;
    this.#release();
    if (this.#body !== null) this.#body.destroy(error);
    // Also where the body broke in the same turn as its headers: nothing has been passed on yet.
    else this.#fail(error);
  }

  /** The caller still uploads: the wait for a response has not begun. */
  onUpload(): void {
    if (!this.#complete) this.#timer.refresh();
  }

  /** The stream's reader made room. */
  resume(): void {
    if (this.#complete || !this.#controller?.paused) return;
    this.#timer = this.#startTimer();
    this.#controller.resume();
  }

  /** The stream's reader lost interest before the end. */
  abandon(): void {
    if (!this.#complete) this.#end(new Ended('client_closed', 'reader left'));
  }

  #startStreaming(): void {
    if (this.#complete || this.#answered) return;
    this.#timer.refresh();
    this.#body = new UpstreamBody(this);
    const early = this.#early;
    this.#early = [];
    for (const chunk of early) this.#body.push(chunk);
    this.#answer(this.#body);
  }

  #answer(body: Buffer | Readable | null): void {
    if (this.#answered) return;
    this.#answered = true;
    this.#resolve({
      kind: 'answered',
      status: this.#status,
      headers: this.#headers,
      body,
      headersAt: this.#headersAt,
    });
  }

  #fail(error: Error): void {
    if (this.#answered) return;
    this.#answered = true;
    this.#resolve({
      kind: 'failed',
      reason: classify(error, this.#controller !== null),
      mayHaveLeft: this.#controller !== null,
      internal: describe(error),
    });
  }

  #startTimer(): NodeJS.Timeout {
    const { timeoutMs } = this.#request;
    return setTimeout(() => this.#end(new Ended('timeout', `nothing for ${timeoutMs} ms`)), timeoutMs).unref();
  }

  #end(ended: Ended): void {
    if (this.#complete || this.#cancelled) return;
    this.#cancelled = ended;
    this.#release();
    if (this.#controller !== null) {
      this.#controller.abort(ended);
      return;
    }
    // Still queued for a connection: `onRequestStart` refuses it later, and the caller does not wait for that.
    if (this.#request.body instanceof Readable) this.#request.body.destroy();
    this.#fail(ended);
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#stopListening?.();
    this.#stopListening = null;
  }
}

/** A body that comes as its reader asks for it. Destroying it aborts the request. */
class UpstreamBody extends Readable {
  readonly #attempt: Attempt;

  constructor(attempt: Attempt) {
    super();
    this.#attempt = attempt;
    // A stream that breaks before anyone listens must not end the process; whoever reads it gets the error all the same.
    this.on('error', () => {});
  }

  override _read(): void {
    this.#attempt.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#attempt.abandon();
    done(error);
  }
}

function hasNoBody(method: string, status: number): boolean {
  return method === 'HEAD' || status === 204 || status === 304;
}

/** The raw list, with duplicates; latin1 keeps every byte as it was. */
function headerStrings(raw: Dispatcher.DispatchController['rawHeaders']): HeaderList {
  if (!Array.isArray(raw)) return [];
  return raw.map((item) => (typeof item === 'string' ? item : item.toString('latin1')));
}

/** Foreign errors are told apart here, once, by code. */
function classify(error: Error, started: boolean): TransportFailure {
  if (error instanceof Ended) return error.reason;
  if (error instanceof BodyTooLarge) return 'body_too_large';
  if (!started) return 'unreachable';
  const code = 'code' in error ? error.code : undefined;
  if (code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH' || code === 'ERR_STREAM_PREMATURE_CLOSE') return 'body_broken';
  return 'protocol';
}

function describe(error: Error): string {
  const code = 'code' in error ? `${String(error.code)}: ` : '';
  return `${code}${error.message}`;
}
