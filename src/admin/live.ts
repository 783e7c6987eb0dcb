import type { ServerResponse } from 'node:http';
import { type Clock, every, type MonotonicMs } from '../clock.ts';
import type { Log } from '../ports.ts';
import { ADMIN_HEADERS } from './problem-response.ts';
import type { Holder } from './status/document.ts';

/** The next frame for a subscriber that has seen the samples up to `seen`. */
export type Frames = (seen: number) => { readonly text: string; readonly seen: number };

interface LiveUpdatesOptions {
  /** Reads the present state once; the result serves every subscriber. */
  readonly frames: () => Frames;
  readonly clock: Clock;
  readonly log: Log;
}

/** Server-sent events for open pages. */
interface LiveUpdates {
  /** Takes over the response until its reader disconnects; false if there are too many subscribers. */
  attach(outgoing: ServerResponse, holder: Holder): boolean;
  /** Sends a frame to all now. */
  push(): void;
  /** Ends all; the pages connect again, with the token that is in force then. */
  restart(): void;
  /** Ends all, and accepts no more. */
  close(): void;
}

/** Age of what a page shows, at most; a page that receives nothing for longer knows that the gateway is gone. */
const EVERY_MS = 2_000;
/** Each costs a connection and some kilobytes every two seconds; enough for a team. */
const MAX_SUBSCRIBERS = 16;
/** A reader that takes nothing for this long has lost its connection, like a phone without signal. */
const STUCK_MS = 30_000;

const HEADERS = {
  ...ADMIN_HEADERS,
  'Content-Type': 'text/event-stream',
  // Keeps nginx from buffering the events.
  'X-Accel-Buffering': 'no',
};

interface Subscriber {
  readonly outgoing: ServerResponse;
  seen: number;
  /** Since when the connection has not taken the last frame; null if it has. */
  fullSince: MonotonicMs | null;
}

/**
 * A single timer serves all subscribers, and stops without any. A slow reader misses frames and gets the newest when it can
 * take one, so that at most one frame waits for it.
 */
export function createLiveUpdates({ frames, clock, log }: LiveUpdatesOptions): LiveUpdates {
  const subscribers = new Set<Subscriber>();
  let stopTimer: (() => void) | null = null;
  let closed = false;

  const send = (subscriber: Subscriber, next: Frames): void => {
    const { outgoing, fullSince } = subscriber;
    if (fullSince !== null) {
      if (clock.monotonic() - fullSince >= STUCK_MS) outgoing.destroy();
      return;
    }
    const { text, seen } = next(subscriber.seen);
    subscriber.seen = seen;
    if (outgoing.write(`data: ${text}\n\n`)) return;
    subscriber.fullSince = clock.monotonic();
    outgoing.once('drain', () => {
      subscriber.fullSince = null;
    });
  };
  const sendTo = (some: Iterable<Subscriber>): void => {
    try {
      const next = frames();
      for (const subscriber of some) send(subscriber, next);
    } catch (error) {
      // A bug in the page's data must not end a process that serves requests.
      log.error({ err: error }, 'status frame failed');
    }
  };
  const leave = (subscriber: Subscriber): void => {
    subscribers.delete(subscriber);
    if (subscribers.size > 0) return;
    stopTimer?.();
    stopTimer = null;
  };
  const endAll = (why: 'restart' | 'closed'): void => {
    for (const subscriber of [...subscribers]) {
      leave(subscriber);
      if (subscriber.fullSince === null) subscriber.outgoing.end(`event: ${why}\ndata:\n\n`);
      else subscriber.outgoing.destroy();
    }
  };

  return {
    attach(outgoing, holder) {
      if (closed || subscribers.size >= MAX_SUBSCRIBERS) return false;
      const subscriber: Subscriber = { outgoing, seen: 0, fullSince: null };
      subscribers.add(subscriber);
      outgoing.once('close', () => leave(subscriber));
      outgoing.writeHead(200, HEADERS);
      // The page shows what this token may do.
      outgoing.write(`event: holder\ndata: ${JSON.stringify(holder)}\n\n`);
      sendTo([subscriber]);
      stopTimer ??= every(clock, EVERY_MS, () => sendTo(subscribers));
      return true;
    },
    push: () => sendTo(subscribers),
    restart: () => endAll('restart'),
    close() {
      closed = true;
      endAll('closed');
    },
  };
}
