import { once } from 'node:events';
import { Redis, type RedisOptions } from 'ioredis';
import type { Clock } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';
import { connectorBy, createBackoff, type HostAndPort } from './connector.ts';
import { reasonOf } from './faults.ts';

/** Where the Sentinels see the master. */
export interface Sentinels {
  /** @throws Error if no Sentinel knows it */
  master(): Promise<HostAndPort>;
  close(): void;
}

interface SentinelsOptions {
  readonly addresses: readonly HostAndPort[];
  /** The name of the master in the configuration of the Sentinels. */
  readonly name: string;
  /** Password and TLS. */
  readonly access: Pick<RedisOptions, 'password' | 'tls'>;
  /** A Sentinel says that the master is elsewhere than `master()` said. */
  readonly onMoved: () => void;
  readonly clock: Clock;
  readonly log: Log;
}

const SWITCH = '+switch-master';
const DEADLINE_MS = 1_000;
const ASK_EVERY_MS = 1_000;
/** For the others, when one has said where the master is: it may be the one that does not know of the fail-over yet. */
const OTHERS_MS = 100;

interface Seen extends HostAndPort {
  /** Grows with each fail-over: of two replies, that with the greater one is true. */
  readonly epoch: number;
}

/**
 * Connections to all Sentinels, which are asked every second. Those that have missed a fail-over, or cannot reach the new master,
 * are outvoted by any that knows it: a gateway on the wrong side of a partition leaves the old master as soon as one tells.
 */
export function openSentinels(options: SentinelsOptions): Sentinels {
  const { addresses, name, onMoved } = options;
  let current: Seen | null = null;

  const ask = async (client: Redis): Promise<Seen | null> => {
    try {
      if (client.status !== 'ready') await once(client, 'ready', { signal: AbortSignal.timeout(DEADLINE_MS) });
      return seenIn(await client.call('SENTINEL', 'MASTER', name));
    } catch {
      return null;
    }
  };
  const isElsewhere = (seen: Seen): boolean =>
    current !== null && seen.epoch > current.epoch && (seen.host !== current.host || seen.port !== current.port);
  const compare = async (client: Redis): Promise<void> => {
    const seen = await ask(client);
    if (seen === null || !isElsewhere(seen)) return;
    // Until `master()` is asked again: each Sentinel says so, and more than once.
    current = null;
    onMoved();
  };
  const clients = addresses.map((address) => {
    const client = openSentinel(address, options);
    // Without a reply another connection is made: this one would never report a fail-over.
    client.on('ready', () => client.subscribe(SWITCH).catch(() => client.disconnect(true)));
    client.on('message', () => void compare(client));
    return client;
  });
  const timer = setInterval(() => {
    for (const client of clients) if (client.status === 'ready') void compare(client);
  }, ASK_EVERY_MS).unref();

  return {
    async master() {
      const seen: Seen[] = [];
      const replies = clients.map(async (client) => {
        const reply = await ask(client);
        if (reply !== null) seen.push(reply);
        return reply;
      });
      await firstOf(replies);
      await Promise.race([Promise.all(replies), new Promise((resolve) => setTimeout(resolve, OTHERS_MS).unref())]);
      const [first, ...others] = seen;
      if (first === undefined) throw new Error(`no Sentinel knows the master "${name}"`);
      current = others.reduce((best, each) => (each.epoch > best.epoch ? each : best), first);
      return { host: current.host, port: current.port };
    },
    close() {
      clearInterval(timer);
      for (const client of clients) client.disconnect();
    },
  };
}

function openSentinel({ host, port }: HostAndPort, { access, clock, log }: SentinelsOptions): Redis {
  let reported = false;
  const backoff = createBackoff(clock);
  const client = new Redis({
    ...access,
    ...{ host, port, Connector: connectorBy(), retryStrategy: backoff.nextMs },
    ...{ connectTimeout: DEADLINE_MS, commandTimeout: DEADLINE_MS, enableOfflineQueue: false, maxRetriesPerRequest: 0 },
    ...{
      autoResubscribe: false,
      autoResendUnfulfilledCommands: false,
      disableClientInfo: true,
      connectionName: 'patchgate',
    },
  });
  client.on('ready', () => {
    backoff.connected();
    reported = false;
  });
  // Once an outage: the others go on.
  client.on('error', (error: Error) => {
    if (!reported) log.warn({ sentinel: `${host}:${port}`, reason: reasonOf(error) }, 'no connection to a Sentinel');
    reported = true;
  });
  return client;
}

/** Resolves when one Sentinel has replied, or none is going to. */
async function firstOf(replies: readonly Promise<Seen | null>[]): Promise<void> {
  const found = replies.map(async (each) => {
    if ((await each) === null) throw new Error('no reply');
  });
  await Promise.any(found).catch(() => {});
}

/** Null for a reply that is none. */
function seenIn(reply: unknown): Seen | null {
  if (!Array.isArray(reply)) return null;
  const said = (field: string): string => String(reply[reply.indexOf(field) + 1] ?? '');
  const [host, port, epoch] = [said('ip'), Number(said('port')), Number(said('config-epoch'))];
  const isValid = host !== '' && Number.isInteger(port) && port > 0 && port < 65_536 && Number.isInteger(epoch);
  if (!isValid) return null;
  // The Sentinel that carries a fail-over out counts it before it names the new master, by the time that its other replicas take.
  return { host, port, epoch: said('flags').includes('failover_in_progress') ? epoch - 1 : epoch };
}
