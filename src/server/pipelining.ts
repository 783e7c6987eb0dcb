import type { Socket } from 'node:net';
import { isSafe } from '../context.ts';

/** A connection with more requests in its queue is not read until some of them are over. */
const MAX_QUEUED = 16;

interface Waiter {
  readonly safe: boolean;
  readonly start: () => void;
}

interface Line {
  /** Requests that have started and are not over. */
  active: number;
  /** The active request may change state, so it is the only one. */
  unsafe: boolean;
  readonly queue: Waiter[];
  /** The connection is not read, because the queue is full. */
  stopped: boolean;
  /** Node resumes a connection whenever a request or its body has been read; this listener pauses it again. */
  guarded: boolean;
}

/**
 * The order in which the requests of one connection are carried out (RFC 9112 section 9.3.2). Only safe ones run side by side: a
 * caller that sends two writes in a row means them to happen in a row. The requests of a connection that is gone never start.
 */
export class Pipelining {
  readonly #lines = new WeakMap<Socket, Line>();

  /** Calls `start` at once, or when the requests before it on this connection are over. */
  enter(socket: Socket, method: string, start: () => void): void {
    let line = this.#lines.get(socket);
    if (line === undefined) {
      line = { active: 0, unsafe: false, queue: [], stopped: false, guarded: false };
      this.#lines.set(socket, line);
    }
    line.queue.push({ safe: isSafe(method), start });
    startNext(line);
    if (line.queue.length > MAX_QUEUED) stopReading(socket, line);
  }

  /** A request that had entered is over: its response has ended, or its connection is gone. */
  ended(socket: Socket): void {
    const line = this.#lines.get(socket);
    if (line === undefined) return;
    line.active -= 1;
    if (line.active > 0) return;
    line.unsafe = false;
    // After `Connection: close` the socket can still be read for a moment, but there will be no response.
    if (socket.destroyed || !socket.writable) {
      this.#lines.delete(socket);
      return;
    }
    startNext(line);
    if (line.stopped && line.queue.length <= MAX_QUEUED) {
      line.stopped = false;
      socket.resume();
    }
  }
}

function stopReading(socket: Socket, line: Line): void {
  line.stopped = true;
  socket.pause();
  if (line.guarded) return;
  line.guarded = true;
  socket.on('resume', () => {
    if (line.stopped) socket.pause();
  });
}

function startNext(line: Line): void {
  for (;;) {
    const [first] = line.queue;
    if (first === undefined || line.unsafe || (line.active > 0 && !first.safe)) return;
    line.queue.shift();
    line.active += 1;
    line.unsafe = !first.safe;
    first.start();
  }
}
