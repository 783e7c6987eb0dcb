import type { Clock } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';
import { type ConnectionSettings, openRedis, type RedisConnection } from './connection.ts';

/** A connection that only receives published messages, and reconnects for ever. */
export interface Subscriber {
  /** `subscribed` is called each time messages begin to arrive: earlier ones may have been missed. */
  subscribe(channel: string, on: { readonly message: (text: string) => void; readonly subscribed: () => void }): void;
  close(): void;
}

/** Before the next node of a Cluster is tried. */
const RETRY_MS = 250;
/** For a user without the right to subscribe, until it is given to it. */
const SUBSCRIBE_AGAIN_MS = 1_000;

/**
 * Every node of a Cluster receives all messages, so the nodes are tried one after the other. ioredis can subscribe to a Cluster
 * by itself, but while no node is there it looks for one without a pause, with all of a processor.
 */
export function openSubscriber(options: {
  readonly settings: ConnectionSettings;
  readonly clock: Clock;
  readonly log: Log;
}): Subscriber {
  const { settings, clock, log } = options;
  const { servers } = settings;
  let current: RedisConnection | null = null;
  let closed = false;
  let attempts = 0;

  const open = (): RedisConnection => {
    if (servers.kind !== 'cluster') return openRedis({ settings, clock, log });
    const node = servers.nodes[attempts++ % servers.nodes.length] as (typeof servers.nodes)[number];
    // The connection for commands reports an outage once; this one would report it for each node.
    return openRedis({ settings: { ...settings, servers: { kind: 'alone', ...node, db: 0 } }, clock, log: SILENT });
  };

  return {
    subscribe(channel, { message, subscribed }) {
      const connect = (): void => {
        if (closed) return;
        const connection = open();
        current = connection;
        const { client } = connection;
        const subscribe = (): void => {
          client.subscribe(channel).then(subscribed, (error: unknown) => {
            log.debug({ channel, reason: String(error) }, 'subscription failed');
            const epoch = connection.epoch();
            // A connection that is lost tries again when there is another.
            clock.after(SUBSCRIBE_AGAIN_MS, () => {
              if (connection.isReady() && connection.epoch() === epoch) subscribe();
            });
          });
        };
        connection.onReady(subscribe);
        client.on('message', (from: string, text: string) => {
          if (from === channel) message(text);
        });
        if (servers.kind !== 'cluster') return;
        client.once('close', () => {
          connection.close();
          clock.after(RETRY_MS, connect);
        });
      };
      connect();
    },
    close() {
      closed = true;
      current?.close();
    },
  };
}

const SILENT: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
