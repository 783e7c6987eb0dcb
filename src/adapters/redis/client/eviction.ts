import type { Cluster, Redis } from 'ioredis';
import type { Log } from '../../../ports.ts';

/** How a server goes on when its memory is full. */
export interface Eviction {
  /** `maxmemory-policy`. */
  readonly policy: string;
  /** It has a `maxmemory`, and removes keys at it. */
  readonly removes: boolean;
}

interface Watched {
  readonly client: Redis | Cluster;
  onReady(run: () => void): void;
}

/**
 * Reads the policy each time a connection is made, and warns of one that removes keys: an idempotency record that is gone lets a
 * write be sent twice. All keys of the gateway expire, so every policy but noeviction may remove them. `INFO` says it without the
 * right to `CONFIG`.
 *
 * @returns null while it is not known; of a Cluster, a node that removes keys, if there is one
 */
export function watchEviction({ client, onReady }: Watched, log: Log): () => Eviction | null {
  let known: Eviction | null = null;
  const read = async (): Promise<void> => {
    const servers = 'nodes' in client ? client.nodes('master') : [client];
    const found = await Promise.all(servers.map(async (server) => evictionIn(await server.info('memory'))));
    const next = found.find((each) => each?.removes) ?? found[0] ?? null;
    if (next?.removes && known?.policy !== next.policy) {
      log.warn(
        { policy: next.policy },
        'Redis removes keys when its memory is full: set maxmemory-policy noeviction, or a keyed write may be sent twice',
      );
    }
    known = next;
  };
  // A server that says nothing of itself is reported by the commands that fail.
  onReady(() => void read().catch(() => {}));
  return () => known;
}

function evictionIn(info: string): Eviction | null {
  const policy = /^maxmemory_policy:([a-z-]+)/m.exec(info)?.[1];
  const maxBytes = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0);
  return policy === undefined ? null : { policy, removes: maxBytes > 0 && policy !== 'noeviction' };
}
