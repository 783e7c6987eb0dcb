import { z } from 'zod';
import type { Clock } from '../../../clock.ts';
import { type Log, SILENT_LOG } from '../../../ports.ts';
import { type ConnectionSettings, openRedis, type RedisConnection } from './connection.ts';
import { reasonOf } from './faults.ts';
import { type Client, parseJson } from './scripts.ts';

/** Before the next node of a Cluster is tried. */
const RETRY_MS = 250;
/** For a user without the right to subscribe, until it is given to it. */
const SUBSCRIBE_AGAIN_MS = 1_000;

interface Subscription {
  readonly settings: ConnectionSettings;
  readonly clock: Clock;
  readonly log: Log;
  readonly channel: string;
  readonly onMessage: (text: string) => void;
  /** Called each time messages begin to arrive: earlier ones may have been missed. */
  readonly onSubscribed: () => void;
}

/**
 * Receives the messages of a channel on a connection of its own, and reconnects for ever. Every node of a Cluster receives all
 * messages, so the nodes are tried one after the other. ioredis can subscribe to a Cluster by itself, but while no node is there it
 * looks for one without a pause, with all of a processor.
 *
 * @returns closes the connection
 */
export function subscribe({ settings, clock, log, channel, onMessage, onSubscribed }: Subscription): () => void {
  const { servers } = settings;
  let current: RedisConnection | null = null;
  let closed = false;
  let attempts = 0;

  const open = (): RedisConnection => {
    if (servers.kind !== 'cluster') return openRedis({ settings, clock, log });
    const node = servers.nodes[attempts++ % servers.nodes.length] as (typeof servers.nodes)[number];
    // The connection for commands reports an outage once; this one would report it for each node.
    return openRedis({ settings: { ...settings, servers: { kind: 'alone', ...node, db: 0 } }, clock, log: SILENT_LOG });
  };
  const connect = (): void => {
    if (closed) return;
    const connection = open();
    current = connection;
    const { client } = connection;
    const ask = (): void => {
      client.subscribe(channel).then(onSubscribed, (error: unknown) => {
        log.debug({ channel, reason: String(error) }, 'subscription failed');
        const epoch = connection.epoch();
        // A connection that is lost tries again when there is another.
        clock.after(SUBSCRIBE_AGAIN_MS, () => {
          if (connection.isReady() && connection.epoch() === epoch) ask();
        });
      });
    };
    connection.onReady(ask);
    client.on('message', (_, text: string) => onMessage(text));
    if (servers.kind !== 'cluster') return;
    client.once('close', () => {
      connection.close();
      clock.after(RETRY_MS, connect);
    });
  };
  connect();
  return () => {
    closed = true;
    current?.close();
  };
}

/** Messages between replicas. They only save time: a replica that misses one finds the same out by asking Redis. */
const message = z.discriminatedUnion('kind', [
  /** An entry of an account's invalidation log; `at` is its number in the log of this name. */
  z.object({
    ...{ kind: z.literal('invalidation'), account: z.string(), log: z.string(), at: z.number() },
    ...{ invalidation: z.string(), by: z.string() },
  }),
  /** The replica serves nothing any more that the log has invalidated up to this number. */
  z.object({ kind: z.literal('invalidated'), account: z.string(), log: z.string(), at: z.number(), by: z.string() }),
  /** The in-flight fetch of this name has ended. */
  z.object({
    ...{ kind: z.literal('fetched'), fetch: z.string(), by: z.string() },
    result: z.enum(['stored', 'unshareable', 'refused', 'failed', 'cancelled']).catch('cancelled'),
  }),
]);
export type Message = z.infer<typeof message>;

export type PubSub = ReturnType<typeof openPubSub>;

/** All accounts share one channel. @param client sends the messages */
export function openPubSub({
  client,
  prefix,
  ...connection
}: Pick<Subscription, 'settings' | 'clock' | 'log'> & { readonly client: Client; readonly prefix: string }) {
  const { log } = connection;
  const channel = `${prefix}:cache`;
  const onMessage: ((message: Message) => void)[] = [];
  const onSubscribed: (() => void)[] = [];

  const close = subscribe({
    ...{ ...connection, channel },
    onMessage: (text) => {
      const received = parseJson(message, text);
      if (received === null) log.debug({ channel }, 'unknown message ignored');
      else for (const run of onMessage) run(received);
    },
    onSubscribed: () => {
      for (const run of onSubscribed) run();
    },
  });

  return {
    channel,
    onMessage: (run: (message: Message) => void): void => void onMessage.push(run),
    /** Calls `run` each time messages begin to arrive. */
    onSubscribed: (run: () => void): void => void onSubscribed.push(run),
    /** Best effort. */
    publish: (message: Message): void => {
      client.publish(channel, JSON.stringify(message)).catch((error: unknown) => {
        log.debug({ channel, reason: reasonOf(error) }, 'publishing failed');
      });
    },
    close,
  };
}
