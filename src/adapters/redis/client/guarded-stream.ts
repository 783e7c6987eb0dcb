import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { type Frame, FrameScanner } from './frame-scanner.ts';

/** Commands have deadlines of some 100 ms: a server from which nothing comes for so long, or a way to it, is not there. */
const SILENT_MS = 2_000;
const CHECK_MS = 500;

/**
 * A connection to Redis that ends when it cannot be relied upon: a reply has no command, or commands have no reply and nothing has
 * come for SILENT_MS. A balancer that lost its state, or a firewall, drops packets without closing the connection.
 */
export class GuardedStream extends Duplex {
  readonly #socket: Socket;
  readonly #guard = new ReplyGuard();
  readonly #timer: NodeJS.Timeout;
  #heard = true;
  #silentMs = 0;

  /** @param socket connected, with the TLS handshake done */
  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    this.#timer = setInterval(() => this.#checkSilence(), CHECK_MS).unref();
    socket.on('data', (bytes: Buffer) => this.#receive(bytes));
    // ioredis listens for the first error only.
    this.on('error', () => {});
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
    socket.on('drain', () => this.#drained());
  }

  /** ioredis calls these two; the connector has set both already. */
  setNoDelay(noDelay: boolean): void {
    this.#socket.setNoDelay(noDelay);
  }

  setKeepAlive(enable: boolean, delayMs: number): void {
    this.#socket.setKeepAlive(enable, delayMs);
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Buffer, _: BufferEncoding, done: (error?: Error) => void): void {
    this.#guard.sent(bytes);
    if (this.#socket.write(bytes)) done();
    else this.#drained = done;
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearInterval(this.#timer);
    this.#socket.destroy();
    done(error);
  }

  #drained: () => void = () => {};

  #receive(bytes: Buffer): void {
    this.#heard = true;
    try {
      this.#guard.received(bytes);
    } catch (error) {
      this.destroy(error as Error);
      return;
    }
    if (!this.push(bytes)) this.#socket.pause();
  }

  /** Counts by its own timer: after a halt of the event loop, what has arrived meanwhile is read before the next check. */
  #checkSilence(): void {
    this.#silentMs = this.#heard || this.#guard.waiting === 0 ? 0 : this.#silentMs + CHECK_MS;
    this.#heard = false;
    if (this.#silentMs >= SILENT_MS) this.destroy(new Error(`no reply for ${SILENT_MS / 1000} s`));
  }
}

/** ioredis ends the process where the reply to one of these, which it sends by itself, is a null. */
const NEVER_NULL = new Set(['cluster']);
const SUBSCRIBED = new Set(['subscribe', 'psubscribe', 'ssubscribe', 'unsubscribe', 'punsubscribe', 'sunsubscribe']);
const MESSAGES = new Set(['message', 'pmessage', 'smessage']);
const ERRORS = '-!';
/** Where a command belongs instead: a slot and an address. */
const REDIRECTION = /^(?:MOVED|ASK) \d{1,5} \S*:\d{1,5}$/;

/**
 * Matches replies with commands, in their order. A reply without a command belongs to another connection, or the order is lost: each
 * reply from then on could be another command's. The same where a reply is missing, which the next PING shows. ioredis would report
 * the first, or end the process where it is a null.
 */
export class ReplyGuard {
  readonly #sent = new FrameScanner('*', ({ words }) => void this.#commands.push((words[0] ?? '').toLowerCase()));
  readonly #received = new FrameScanner('>', (frame) => this.#check(frame));
  /** Names of the commands without a reply, from `#first` on. */
  #commands: string[] = [];
  #first = 0;

  /** Commands without a reply. */
  get waiting(): number {
    return this.#commands.length - this.#first;
  }

  sent(bytes: Buffer): void {
    this.#sent.write(bytes);
  }

  /** @throws Error in the server's own words where it has some; the connection cannot be used any more */
  received(bytes: Buffer): void {
    this.#received.write(bytes);
  }

  #check(frame: Frame): void {
    if (frame.type === '>') this.#checkPush(frame.words);
    else this.#checkReply(frame);
  }

  #checkReply({ type, line }: Frame): void {
    const isError = ERRORS.includes(type);
    const command = this.#next();
    if (command === undefined) throw new Error(isError ? line : 'a reply without a command');
    const isNull = type === '_' || line === '-1';
    const isPossible = SUBSCRIBED.has(command) ? isError : !(isNull && NEVER_NULL.has(command));
    // Each second a PING shows whether the order is still right. With RESP2 a subscriber gets a list.
    const isOrderLost = command === 'ping' && !isError && type !== '*' && line !== 'PONG';
    if (!isPossible || isOrderLost) throw new Error(`a reply to ${command} that is none`);
    if (isError && /^(?:MOVED|ASK)\b/.test(line) && !REDIRECTION.test(line)) {
      throw new Error('a redirection to nowhere');
    }
  }

  /** Each of our subscriptions is to one channel: one push answers it. */
  #checkPush([kind, channel]: readonly (string | null)[]): void {
    if (typeof kind !== 'string') throw new Error('a push without a kind');
    if (MESSAGES.has(kind) && typeof channel !== 'string') throw new Error('a message without a channel');
    if (!SUBSCRIBED.has(kind)) return;
    if (this.#next() !== kind || typeof channel !== 'string') throw new Error(`${kind} without a command`);
  }

  #next(): string | undefined {
    const command = this.#commands[this.#first];
    if (command === undefined) return undefined;
    this.#first += 1;
    if (this.#first === this.#commands.length) {
      this.#commands = [];
      this.#first = 0;
    } else if (this.#first > 1_024) {
      this.#commands = this.#commands.slice(this.#first);
      this.#first = 0;
    }
    return command;
  }
}
