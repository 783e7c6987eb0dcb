import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Clock, MonotonicMs } from '../../clock.ts';
import { BodyTooLarge, type HeaderList } from '../../exchange.ts';
import { inARow } from '../../together.ts';
import type { Outbound, SendFailure, Sent } from '../../upstream/sender.ts';

/** Why we ended an attempt ourselves; it reaches the handler as the error of the abort. */
class Ended extends Error {
  readonly reason: SendFailure;
  constructor(reason: SendFailure, message: string) {
    super(message);
    this.reason = reason;
  }
}

/**
 * One request on the wire. The answer resolves once its headers are here: with a Buffer if the body came along within
 * the same turn of the event loop (nearly every JSON answer), else with a stream that pauses the socket when its reader
 * falls behind. A chunk is never held back to see whether more comes.
 *
 * It speaks the interface that undici's own client speaks. The one with a controller is put in front of that, and makes an
 * object of the headers of each answer, which nobody here reads: some 4 % of a small GET (docs/benchmarks.md).
 */
export class Attempt implements Dispatcher.DispatchHandler {
  readonly #request: Outbound;
  readonly #clock: Clock;
  readonly #resolve: (sent: Sent) => void;
  /** Null until undici puts it on a connection; from then on a byte may have left. */
  #abort: ((error: Error) => void) | null = null;
  /** Resolved, or handed over to a stream. */
  #answered = false;
  #status = 0;
  #headers: HeaderList = [];
  #headersAt = 0 as MonotonicMs;
  #early: Buffer[] = [];
  #body: UpstreamBody | null = null;
  #complete = false;
  #paused = false;
  #resume: () => void = () => {};
  #timer: NodeJS.Timeout;
  #stopListening: (() => void) | null = null;
  /** Set when the attempt ended before undici put it on a connection: it must not be written any more. */
  #cancelled: Ended | null = null;

  constructor(request: Outbound, clock: Clock, resolve: (sent: Sent) => void) {
    this.#request = request;
    this.#clock = clock;
    this.#resolve = resolve;
    this.#timer = setTimeout(() => this.#onTimeout(), request.timeoutMs);
    this.#timer.unref();
    if (request.hangUp)
      this.#stopListening = request.hangUp.onHangUp(() => this.#end(new Ended('hung_up', 'caller left')));
  }

  /** Nobody waits for it any more. */
  get isOver(): boolean {
    return this.#complete || this.#cancelled !== null;
  }

  onConnect(abort: (error?: Error) => void): void {
    // Kept before a late abort: from the next line on a byte may leave.
    if (this.#cancelled) abort(this.#cancelled);
    else this.#abort = abort;
  }

  onHeaders(status: number, rawHeaders: Buffer[], resume: () => void): boolean {
    if (status < 200) return true;
    this.#resume = resume;
    this.#headersAt = this.#clock.monotonic();
    this.#status = status;
    this.#headers = headerStrings(rawHeaders);
    atTheEndOfThisTurn(this);
    return true;
  }

  /** False: no more for now. */
  onData(chunk: Buffer): boolean {
    if (this.#body === null) {
      this.#early.push(chunk);
      return true;
    }
    this.#timer.refresh();
    if (!this.#body.push(chunk)) {
      this.#paused = true;
      // A reader that is slow is not an upstream that is slow: the clock stands still while we hold the socket back.
      clearTimeout(this.#timer);
    }
    return !this.#paused;
  }

  onComplete(): void {
    this.#complete = true;
    this.#release();
    if (this.#body !== null) {
      this.#body.push(null);
      return;
    }
    const body = this.#early.length === 1 ? (this.#early[0] as Buffer) : Buffer.concat(this.#early);
    this.#answer(hasNoBody(this.#request.method, this.#status) ? null : body);
  }

  onError(error: Error): void {
    this.#complete = true;
    this.#release();
    if (this.#body !== null) this.#body.destroy(error);
    // Also where headers came, and the body broke within the same turn: nothing has been passed on yet.
    else this.#fail(error);
  }

  /** The caller still uploads: the wait for an answer has not begun. */
  onUpload(): void {
    if (!this.#complete) this.#timer.refresh();
  }

  /** The stream's reader made room. */
  resume(): void {
    if (!this.#complete && this.#paused) {
      this.#paused = false;
      this.#timer = setTimeout(() => this.#onTimeout(), this.#request.timeoutMs);
      this.#timer.unref();
      this.#resume();
    }
  }

  /** The stream's reader lost interest before the end. */
  abandon(): void {
    if (!this.#complete) this.#end(new Ended('hung_up', 'reader left'));
  }

  /** The turn in which the headers came is over: what is still to come of the body is streamed. */
  turnIsOver(): void {
    if (!this.#complete) this.#startStreaming();
  }

  #startStreaming(): void {
    if (this.#answered) return;
    // Only now: most answers are complete by the end of the turn, and need no more time.
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
      reason: classify(error, this.#abort !== null),
      mayHaveLeft: this.#abort !== null,
      internal: describe(error),
    });
  }

  #onTimeout(): void {
    this.#end(new Ended('timeout', `nothing for ${this.#request.timeoutMs} ms`));
  }

  #end(ended: Ended): void {
    if (this.#complete || this.#cancelled) return;
    this.#cancelled = ended;
    this.#release();
    if (this.#abort !== null) {
      this.#abort(ended);
      return;
    }
    // Still queued for a connection. undici will offer it one day and be told no; nobody waits for that.
    if (this.#request.body instanceof Readable) this.#request.body.destroy();
    this.#fail(ended);
  }

  #release(): void {
    clearTimeout(this.#timer);
    this.#stopListening?.();
    this.#stopListening = null;
  }
}

const atTheEndOfThisTurn = inARow((attempt: Attempt) => attempt.turnIsOver(), Number.POSITIVE_INFINITY);

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

/** undici hands the raw list over as buffers; latin1 keeps every byte what it was. */
function headerStrings(raw: readonly Buffer[]): HeaderList {
  const list: HeaderList = [];
  for (const item of raw) list.push(item.toString('latin1'));
  return list;
}

/** Foreign errors are told apart here, once, by code. */
function classify(error: Error, started: boolean): SendFailure {
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
