import type { Worker } from 'node:cluster';
import type { Socket } from 'node:net';
import type { Clock, MonotonicMs } from '../clock.ts';
import type { StatusPart } from '../gateway/status.ts';
import type { Taker } from './handout.ts';
import type { Answers, FromWorker, Question, ToWorker } from './messages.ts';

export interface MemberEvents {
  readonly onHello: () => void;
  readonly onOpen: () => void;
  readonly onTook: () => void;
  readonly onGone: (how: { readonly code: number | null; readonly signal: string | null }) => void;
}

/** A worker, as the primary sees it. */
export class Member implements Taker {
  readonly id: number;
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #pending = new Map<number, (answer: unknown) => void>();
  #asked = 0;
  #heardAt: MonotonicMs;
  #gone = false;
  /** The latest that it told: what it counted stands when it is gone. */
  metrics: string | null = null;
  part: StatusPart | null = null;

  constructor(id: number, worker: Worker, clock: Clock, events: MemberEvents) {
    this.id = id;
    this.#worker = worker;
    this.#clock = clock;
    this.#heardAt = clock.monotonic();
    worker.on('message', (message: FromWorker) => this.#hear(message, events));
    // Of a message that could not be sent: its end is told as well.
    worker.on('error', () => {});
    worker.process.once('exit', (code, signal) => {
      const gone = (): void => {
        this.#gone = true;
        for (const resolve of this.#pending.values()) resolve(null);
        this.#pending.clear();
        events.onGone({ code, signal });
      };
      // Its last words may still be on their way: what it took, and what it counted.
      if (worker.isConnected()) worker.process.once('disconnect', gone);
      else gone();
    });
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  /** How long nothing has been heard of it. */
  get silentMs(): number {
    return this.#clock.monotonic() - this.#heardAt;
  }

  give(socket: Socket): void {
    this.#send({ kind: 'connection' }, socket);
  }

  tell(message: ToWorker): void {
    this.#send(message);
  }

  /** Null: it gave no answer in time. */
  ask<About extends Question['about']>(
    question: Extract<Question, { about: About }>,
    withinMs: number,
  ): Promise<Answers[About] | null> {
    if (this.#gone) return Promise.resolve(null);
    const number = this.#asked++;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(withinMs, () => {
        this.#pending.delete(number);
        resolve(null);
      });
      this.#pending.set(number, (answer) => {
        cancel();
        resolve(answer as Answers[About] | null);
      });
      this.#send({ kind: 'ask', number, question });
    });
  }

  /** It can not refuse. */
  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }

  #send(message: ToWorker, socket?: Socket): void {
    if (this.#gone || !this.#worker.isConnected()) return;
    // Its own end of a connection the primary closes when the worker has taken it.
    this.#worker.send(message, socket, { keepOpen: true }, () => {});
  }

  #hear(message: FromWorker, events: MemberEvents): void {
    this.#heardAt = this.#clock.monotonic();
    switch (message.kind) {
      case 'hello':
        events.onHello();
        break;
      case 'open':
        events.onOpen();
        break;
      case 'took':
        events.onTook();
        break;
      case 'answer': {
        const resolve = this.#pending.get(message.number);
        this.#pending.delete(message.number);
        resolve?.(message.answer);
        break;
      }
      case 'drained':
        this.metrics = message.metrics;
    }
  }
}
