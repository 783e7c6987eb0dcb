import type { Clock } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';
import { type ConnectionSettings, openRedis, type RedisConnection } from './connection.ts';

/** A connection that hears what is published, and does nothing else; it goes on trying for ever. */
export interface Listener {
  /** `began` is called each time messages begin to arrive: what was told before was missed. */
  listen(channel: string, on: { readonly message: (text: string) => void; readonly began: () => void }): void;
  close(): void;
}

/** Before the next node of a Cluster is tried. */
const PAUSE_MS = 250;

/**
 * Of a Cluster any one node will do, for what is published on one is told to all: the nodes are tried in turn. (ioredis can
 * listen to a Cluster by itself, but while no node is there it looks for one without a pause, with all of a processor.)
 */
export function openListener(options: {
  readonly settings: ConnectionSettings;
  readonly clock: Clock;
  readonly log: Log;
}): Listener {
  const { settings, clock, log } = options;
  const { servers } = settings;
  let current: RedisConnection | null = null;
  let closed = false;
  let turn = 0;

  const open = (): RedisConnection => {
    if (servers.kind !== 'cluster') return openRedis({ settings, log });
    const node = servers.nodes[turn++ % servers.nodes.length] as (typeof servers.nodes)[number];
    // Once an outage is told by the connection that asks; this one would tell it of each node.
    return openRedis({ settings: { ...settings, servers: { kind: 'alone', ...node, db: 0 } }, log: SILENT });
  };

  return {
    listen(channel, { message, began }) {
      const begin = (): void => {
        if (closed) return;
        const connection = open();
        current = connection;
        const { client } = connection;
        connection.onReady(() => {
          client.subscribe(channel).then(began, (error: unknown) => {
            // The next connection tries again.
            log.debug({ reason: String(error) }, 'the cache could not listen to other replicas');
          });
        });
        client.on('message', (from: string, text: string) => {
          if (from === channel) message(text);
        });
        if (servers.kind !== 'cluster') return;
        client.once('close', () => {
          connection.close();
          clock.after(PAUSE_MS, begin);
        });
      };
      begin();
    },
    close() {
      closed = true;
      current?.close();
    },
  };
}

const SILENT: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
