import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Clock, MonotonicMs } from '../../clock.ts';
import { BodyTooLarge, type HeaderList, headerOf } from '../../context.ts';
import type { OutboundRequest, TransportFailure, TransportResult } from '../../upstream/transport.ts';

/** Ends an attempt for a reason of our own. undici hands it back as the error of the aborted request. */
class AttemptAborted extends Error {
  readonly reason: TransportFailure;
  constructor(reason: TransportFailure, message: string) {
    super(message);
    this.reason = reason;
  }
}

/**
 * A single request to the upstream. The response body is a Buffer if it arrives whole in the same turn of the event loop as the headers, as nearly
 * every JSON body does, else a stream that pauses the socket when its reader falls behind. No chunk is delayed to wait for more.
 */
export class Attempt implements Dispatcher.DispatchHandler {
  readonly #request: OutboundRequest;
  readonly #clock: Clock;
  readonly #resolve: (sent: TransportResult) => void;
  /** Null until undici puts the request on a connection; from then on a byte may be sent. */
  #controller: Dispatcher.DispatchController | null = null;
  #resolved = false;
  #status = 0;
  #headers: HeaderList = [];
  #headersAt = 0 as MonotonicMs;
  /** Chunks that arrived before the body became a stream. */
  #early: Buffer[] = [];
  #body: Readable | null = null;
  #complete = false;
  #timer: NodeJS.Timeout;
  #stopListening = (): void => {};
  /** Null once the upload has ended, and without one. */
  #upload: Readable | null = null;
  /** Set when the attempt was aborted; a request that is still queued must not be written then. */
  #cancelled: AttemptAborted | null = null;

  constructor(request: OutboundRequest, clock: Clock, resolve: (sent: TransportResult) => void) {
    this.#request = request;
    this.#clock = clock;
    this.#resolve = resolve;
    this.#timer = this.#startTimer();
    this.#stopListening = request.disconnect.onDisconnect(() =>
      this.#abort(new AttemptAborted('client_closed', 'client disconnected')),
    );
  }

  /** The client disconnected before the request was handed to undici. */
  get isOver(): boolean {
    return this.#complete || this.#cancelled !== null;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // An aborted request is not written, so no byte of it is sent.
    if (this.#cancelled) controller.abort(this.#cancelled);
    else this.#controller = controller;
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return;
    this.#headersAt = this.#clock.monotonic();
    this.#status = status;
    this.#headers = headerStrings(controller.rawHeaders);
    if (this.#request.method === 'HEAD' || status === 204 || status === 304) {
      // undici fails such a response where it declares a length, which a 304 may (RFC 9110 section 8.6).
      this.#release();
      this.#respond(null);
    } else setImmediate(() => this.#startStreaming());
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
    this.#respond(body);
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    this.#complete = true;
    this.#release();
    if (this.#body !== null) this.#body.destroy(error);
    // Also if the body broke in the same turn as its headers: nothing has been passed on yet.
    else this.#fail(error);
  }

  /** The body of the request, as undici reads it. It has to be read to its end within the timeout. */
  onUpload(body: Readable): void {
    this.#upload = body;
  }

  /** The wait for a response begins when the upload has ended. */
  onUploaded(): void {
    this.#upload = null;
    if (!this.#complete) this.#timer.refresh();
  }

  #startStreaming(): void {
    if (this.#complete || this.#resolved) return;
    this.#timer.refresh();
    this.#body = this.#openBody();
    for (const chunk of this.#early.splice(0)) this.#body.push(chunk);
    this.#respond(this.#body);
  }

  /** The socket is paused while the reader of this body has no room. Destroying the body aborts the request. */
  #openBody(): Readable {
    const body = new Readable({
      read: () => {
        if (this.#complete || !this.#controller?.paused) return;
        this.#timer = this.#startTimer();
        this.#controller.resume();
      },
      destroy: (error, done) => {
        if (!this.#complete) this.#abort(new AttemptAborted('client_closed', 'reader closed the body'));
        done(error);
      },
    });
    // Without a listener an error would end the process. A reader still receives the error.
    return body.on('error', () => {});
  }

  #respond(body: Buffer | Readable | null): void {
    if (this.#resolved) return;
    this.#resolved = true;
    this.#resolve({
      kind: 'response',
      status: this.#status,
      headers: this.#headers,
      body,
      endsWithConnection: body !== null && endsWithConnection(this.#headers),
      headersAt: this.#headersAt,
    });
  }

  #fail(error: Error): void {
    if (this.#resolved) return;
    this.#resolved = true;
    this.#resolve({
      kind: 'failed',
      reason: classify(error, this.#controller !== null),
      mayBeSent: this.#controller !== null,
      internal: 'code' in error ? `${String(error.code)}: ${error.message}` : error.message,
    });
  }

  #startTimer(): NodeJS.Timeout {
    const { timeoutMs } = this.#request;
    return setTimeout(() => {
      // If there is a chunk to send, the upstream does not take it.
      const isCallerSlow = this.#upload?.readableLength === 0 && this.#body === null;
      const reason = isCallerSlow ? 'body_timeout' : 'timeout';
      this.#abort(new AttemptAborted(reason, `nothing for ${timeoutMs} ms`));
    }, timeoutMs).unref();
  }

  #abort(aborted: AttemptAborted): void {
    if (this.#complete || this.#cancelled) return;
    this.#cancelled = aborted;
    this.#release();
    if (this.#controller !== null) {
      this.#controller.abort(aborted);
      return;
    }
    // The request is still queued for a connection: `onRequestStart` aborts it later, and the result does not wait for that.
    if (this.#request.body instanceof Readable) this.#request.body.destroy();
    this.#fail(aborted);
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#stopListening();
  }
}

/** Whether only the end of the connection shows the end of the body (RFC 9112 section 6.3). */
function endsWithConnection(headers: HeaderList): boolean {
  const coding = headerOf(headers, 'transfer-encoding');
  if (coding !== undefined) return !/(?:^|[ \t,])chunked[ \t]*$/i.test(coding);
  return headerOf(headers, 'content-length') === undefined;
}

/** The raw list, with duplicates; latin1 keeps every byte unchanged. */
function headerStrings(raw: Dispatcher.DispatchController['rawHeaders']): HeaderList {
  if (!Array.isArray(raw)) return [];
  return raw.map((item) => (typeof item === 'string' ? item : item.toString('latin1')));
}

/** The one place that classifies undici's errors, by their codes. */
function classify(error: Error, started: boolean): TransportFailure {
  if (error instanceof AttemptAborted) return error.reason;
  if (error instanceof BodyTooLarge) return 'body_too_large';
  if (!started) return 'unreachable';
  const code = 'code' in error ? error.code : undefined;
  if (code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH' || code === 'ERR_STREAM_PREMATURE_CLOSE') return 'body_broken';
  return 'protocol';
}
