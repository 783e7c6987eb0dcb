import type { Log } from '../../../ports.ts';
import type { Client } from './scripts.ts';
import type { Subscriber } from './subscriber.ts';

/** Messages between replicas. They only save time: a replica that misses one finds the same out by asking Redis. */
export type Message =
  /** An entry of an account's invalidation log; `at` is its number in the log of this name. */
  | { kind: 'invalidation'; account: string; log: string; at: number; invalidation: string; by: string }
  /** The replica serves nothing any more that the log has invalidated up to this number. */
  | { kind: 'invalidated'; account: string; log: string; at: number; by: string }
  /** The in-flight fetch of this name has ended. */
  | { kind: 'fetched'; fetch: string; result: string; by: string };

export interface PubSub {
  readonly channel: string;
  onMessage(run: (message: Message) => void): void;
  /** Calls `run` each time messages begin to arrive: earlier ones may have been missed. */
  onSubscribed(run: () => void): void;
  /** Best effort. */
  publish(message: Message): void;
  close(): void;
}

/** All accounts share one channel. */
export function openPubSub(options: {
  readonly subscriber: Subscriber;
  readonly client: Client;
  readonly prefix: string;
  readonly log: Log;
}): PubSub {
  const { client, log } = options;
  const channel = `${options.prefix}:cache`;
  const onMessage: ((message: Message) => void)[] = [];
  const onSubscribed: (() => void)[] = [];

  options.subscriber.subscribe(channel, {
    message: (text) => {
      const message = parse(text);
      if (message === null) log.debug({ channel }, 'unknown message ignored');
      else for (const run of onMessage) run(message);
    },
    subscribed: () => {
      for (const run of onSubscribed) run();
    },
  });

  return {
    channel,
    onMessage: (run) => void onMessage.push(run),
    onSubscribed: (run) => void onSubscribed.push(run),
    publish: (message) => {
      client.publish(channel, JSON.stringify(message)).catch((error: unknown) => {
        log.debug({ channel, reason: error instanceof Error ? error.message : String(error) }, 'publishing failed');
      });
    },
    close: () => options.subscriber.close(),
  };
}

const FIELDS: Readonly<Record<Message['kind'], Readonly<Record<string, 'string' | 'number'>>>> = {
  invalidation: { account: 'string', log: 'string', at: 'number', invalidation: 'string', by: 'string' },
  invalidated: { account: 'string', log: 'string', at: 'number', by: 'string' },
  fetched: { fetch: 'string', result: 'string', by: 'string' },
};

/** Null for a message of another program. */
function parse(text: string): Message | null {
  try {
    const message = JSON.parse(text) as Record<string, unknown> | null;
    const fields = FIELDS[message?.['kind'] as Message['kind']];
    if (message === null || fields === undefined) return null;
    const isComplete = Object.entries(fields).every(([name, type]) => typeof message[name] === type);
    return isComplete ? (message as unknown as Message) : null;
  } catch {
    return null;
  }
}
