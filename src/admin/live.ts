import type { ServerResponse } from 'node:http';
import { type Clock, every, type MonotonicMs } from '../clock.ts';
import type { Log } from '../ports.ts';
import { ADMIN_HEADERS } from './problem-response.ts';

/** What a listener is told next, and how far that brings it. */
export type Frames = (seen: number) => { readonly text: string; readonly seen: number };

export interface EventsOptions {
  /** Reads the present, once for all who listen. */
  readonly frames: () => Frames;
  readonly clock: Clock;
  readonly log: Log;
}

/** Server-sent events to whoever has the page open. */
export interface Events {
  /** Takes over the response, until its reader leaves; false if as many listen as may. */
  attach(outgoing: ServerResponse): boolean;
  /** Tells all at once: something has changed that nobody should wait for. */
  push(): void;
  /** Ends all; they come again, and have to show the token that is in force then. */
  restart(): void;
  /** Ends all, and takes no more. */
  close(): void;
}

/** What a page shows is as old as this; and it is the heartbeat by which it knows that the gateway is there. */
const EVERY_MS = 2_000;
/** Each costs a connection and some kilobytes every two seconds: a team that looks, not the world. */
const MOST_LISTENERS = 16;
/** A reader that takes nothing for so long has gone without a word, as a phone does in a tunnel. */
const STUCK_MS = 30_000;

const HEADERS = {
  ...ADMIN_HEADERS,
  'Content-Type': 'text/event-stream',
  // An nginx on the way would otherwise collect what should arrive now.
  'X-Accel-Buffering': 'no',
};

interface Listener {
  readonly outgoing: ServerResponse;
  seen: number;
  /** Since when the connection has not taken what it was given; null if it has. */
  fullSince: MonotonicMs | null;
}

/**
 * One timer for all, and none while nobody listens. A reader that is slow misses frames and is told the newest when it can
 * take one: what waits for it is never more than one frame.
 */
export function createEvents({ frames, clock, log }: EventsOptions): Events {
  const listeners = new Set<Listener>();
  let stopTimer: (() => void) | null = null;
  let closed = false;

  const send = (listener: Listener, next: Frames): void => {
    const { outgoing, fullSince } = listener;
    if (fullSince !== null) {
      if (clock.monotonic() - fullSince >= STUCK_MS) outgoing.destroy();
      return;
    }
    const { text, seen } = next(listener.seen);
    listener.seen = seen;
    if (outgoing.write(`data: ${text}\n\n`)) return;
    listener.fullSince = clock.monotonic();
    outgoing.once('drain', () => {
      listener.fullSince = null;
    });
  };
  const sendTo = (some: Iterable<Listener>): void => {
    try {
      const next = frames();
      for (const listener of some) send(listener, next);
    } catch (error) {
      // A fault of ours in what is shown must not end a process that serves.
      log.error({ err: error }, 'the page could not be told how the gateway stands');
    }
  };
  const leave = (listener: Listener): void => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    stopTimer?.();
    stopTimer = null;
  };
  const endAll = (why: 'restart' | 'closed'): void => {
    for (const listener of [...listeners]) {
      leave(listener);
      if (listener.fullSince === null) listener.outgoing.end(`event: ${why}\ndata:\n\n`);
      else listener.outgoing.destroy();
    }
  };

  return {
    attach(outgoing) {
      if (closed || listeners.size >= MOST_LISTENERS) return false;
      const listener: Listener = { outgoing, seen: 0, fullSince: null };
      listeners.add(listener);
      outgoing.once('close', () => leave(listener));
      outgoing.writeHead(200, HEADERS);
      sendTo([listener]);
      stopTimer ??= every(clock, EVERY_MS, () => sendTo(listeners));
      return true;
    },
    push: () => sendTo(listeners),
    restart: () => endAll('restart'),
    close() {
      closed = true;
      endAll('closed');
    },
  };
}
