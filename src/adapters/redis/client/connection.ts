import type { ConnectionOptions } from 'node:tls';
import { Cluster, Redis } from 'ioredis';
import type { Clock } from '../../../clock.ts';
import type { Log } from '../../../ports.ts';
import type { Secret } from '../../../secret.ts';
import { type Backoff, connectorBy, createBackoff, type HostAndPort, LONGEST_PAUSE_MS } from './connector.ts';
import { Faults, type RedisFault, reasonOf } from './faults.ts';
import { openSentinels, type Sentinels } from './sentinels.ts';

export interface ConnectionSettings {
  readonly servers:
    | { readonly kind: 'alone'; readonly host: string; readonly port: number; readonly db: number }
    | { readonly kind: 'sentinel'; readonly sentinels: readonly HostAndPort[]; readonly name: string }
    | { readonly kind: 'cluster'; readonly nodes: readonly HostAndPort[] };
  readonly username: string | null;
  readonly password: Secret | null;
  readonly sentinelPassword: Secret | null;
  readonly tls: {
    readonly ca: string | null;
    readonly cert: string | null;
    readonly key: Secret | null;
    readonly servername: string | null;
  } | null;
  /** Deadline of every command. */
  readonly timeoutMs: number;
}

export interface RedisConnection {
  readonly client: Redis | Cluster;
  readonly isCluster: boolean;
  /** Commands can be sent. */
  isReady(): boolean;
  /**
   * Grows whenever a connection to a server is lost, before a command can be sent on a new one: from then on it is unknown
   * what the server still has in memory.
   */
  epoch(): number;
  /** Calls `run` each time commands can be sent again. */
  onReady(run: () => void): void;
  /** Why Redis cannot be used; null if it has replied with no error in the last seconds. */
  fault(): RedisFault | null;
  /** Does not wait for anything. */
  close(): void;
}

const CONNECT_TIMEOUT_MS = 1_000;
const SLOTS_REFRESH_MS = 5_000;
const PING_EVERY_MS = 1_000;

export interface RedisOptions {
  readonly settings: ConnectionSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * A connection that reconnects for ever, and starts while Redis is down. Nothing is queued while there is none, and
 * nothing is sent twice: a command fails at once, or after its deadline. A connection on which replies stay out is given up
 * (guarded-stream.ts).
 */
export function openRedis(options: RedisOptions): RedisConnection {
  const { log, clock } = options;
  const { servers } = options.settings;
  const faults = new Faults(clock, log);
  const backoff = createBackoff(clock);
  const { client, sentinels } = openClient(options, optionsOf(options.settings, backoff, faults), backoff);
  let epoch = 1;
  let reported = false;
  const lost = (): void => {
    epoch += 1;
  };
  if (client instanceof Redis) {
    client.on('close', lost);
  } else {
    // The loss of a node that was never reached means nothing. Scripts recognise a node that takes over by its id (admit.lua).
    client.on('+node', (node: Redis) => countCloses(node, lost));
    // "All nodes failed" says nothing, the errors of the nodes do.
    client.on('node error', (error: Error) => faults.unreachable(error));
  }
  client.on('ready', () => {
    backoff.connected();
    if (reported) log.info({ kind: servers.kind }, 'Redis responds again');
    reported = false;
  });
  // Logged once an outage, not once an attempt. Only the message: the error holds the command, and so the password.
  client.on('error', (error: Error) => {
    if (client instanceof Redis) faults.unreachable(error);
    if (!reported) log.warn({ kind: servers.kind, reason: reasonOf(error) }, 'no connection to Redis');
    reported = true;
  });
  const pings = setInterval(() => pingIdle(client), PING_EVERY_MS).unref();
  return {
    client,
    isCluster: servers.kind === 'cluster',
    isReady: () => client.status === 'ready',
    epoch: () => epoch,
    onReady: (run) => void client.on('ready', run),
    fault: () => faults.current(),
    close: () => {
      clearInterval(pings);
      sentinels?.close();
      client.disconnect();
    },
  };
}

/**
 * A connection on which nothing is sent, as of a subscriber or a node without an account, would never be found silent. And one
 * that has lost a reply is found by it (guarded-stream.ts).
 */
function pingIdle(client: Redis | Cluster): void {
  for (const node of client instanceof Redis ? [client] : client.nodes()) {
    if (node.status === 'ready') node.ping().catch(() => {});
  }
}

function countCloses(node: Redis, lost: () => void): void {
  let wasReady = false;
  node.on('ready', () => {
    wasReady = true;
  });
  node.on('close', () => {
    if (wasReady) lost();
    wasReady = false;
  });
}

type Options = ReturnType<typeof optionsOf>;

interface Opened {
  readonly client: Redis | Cluster;
  readonly sentinels: Sentinels | null;
}

function openClient({ settings, clock, log }: RedisOptions, options: Options, backoff: Backoff): Opened {
  const { servers } = settings;
  if (servers.kind === 'cluster') {
    return { client: new Cluster([...servers.nodes], clusterOptions(options, backoff)), sentinels: null };
  }
  const single = { ...options, enableOfflineQueue: false };
  if (servers.kind === 'alone') {
    const { host, port, db } = servers;
    return { client: new Redis({ ...single, host, port, db }), sentinels: null };
  }
  const sentinels = openSentinels({
    addresses: servers.sentinels,
    name: servers.name,
    access: {
      ...(settings.sentinelPassword !== null && { password: settings.sentinelPassword.reveal() }),
      ...(settings.tls !== null && { tls: tlsOf(settings.tls) }),
    },
    clock,
    log,
    // Before commands fail: the old master goes on answering for some seconds.
    onMoved: () => client.disconnect(true),
  });
  const client = new Redis({ ...single, Connector: connectorBy({ find: sentinels.master, role: 'master' }) });
  return { client, sentinels };
}

function clusterOptions(redisOptions: Options, backoff: Backoff) {
  return {
    redisOptions,
    enableOfflineQueue: false,
    scaleReads: 'master' as const,
    maxRedirections: 3,
    retryDelayOnFailover: 50,
    retryDelayOnClusterDown: 50,
    retryDelayOnTryAgain: 20,
    retryDelayOnMoved: 0,
    slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
    slotsRefreshInterval: SLOTS_REFRESH_MS,
    clusterRetryStrategy: backoff.nextMs,
  };
}

function optionsOf(settings: ConnectionSettings, backoff: Backoff, faults: Faults) {
  const { username, password, tls, timeoutMs } = settings;
  return {
    ...(username !== null && { username }),
    ...(password !== null && { password: password.reveal() }),
    ...(tls !== null && { tls: tlsOf(tls) }),
    Connector: connectorBy(),
    commandTimeout: timeoutMs,
    connectTimeout: CONNECT_TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    // A command that may have been executed is not sent again.
    autoResendUnfulfilledCommands: false,
    // The subscriber subscribes again by itself. ioredis would do so too, with an error that cannot be caught: a server that is
    // slow after a restart would end the process.
    autoResubscribe: false,
    retryStrategy: backoff.nextMs,
    maxLoadingRetryTime: LONGEST_PAUSE_MS,
    // ioredis asks about each error of the server. A master that has become a replica: the address, or the Sentinels, lead to the new one.
    reconnectOnError: (error: Error) => {
      faults.replied(error);
      return error.message.startsWith('READONLY');
    },
    disableClientInfo: true,
    connectionName: 'patchgate',
  };
}

function tlsOf(tls: NonNullable<ConnectionSettings['tls']>): ConnectionOptions {
  return {
    ...(tls.ca !== null && { ca: tls.ca }),
    ...(tls.cert !== null && { cert: tls.cert }),
    ...(tls.key !== null && { key: tls.key.reveal() }),
    ...(tls.servername !== null && { servername: tls.servername }),
  };
}
