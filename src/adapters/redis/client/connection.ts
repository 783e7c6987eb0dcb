import type { ConnectionOptions } from 'node:tls';
import { Cluster, Redis } from 'ioredis';
import type { Log } from '../../../ports.ts';
import type { Secret } from '../../../secret.ts';

interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

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
  /** Gives up connections that are open and do not respond. */
  reconnect(): void;
  /** Does not wait for anything. */
  close(): void;
}

const CONNECT_TIMEOUT_MS = 1_000;
const LONGEST_PAUSE_MS = 500;
const KEEP_ALIVE_MS = 5_000;

/**
 * A connection that reconnects for ever, and starts while Redis is down. Nothing is queued while there is none, and
 * nothing is sent twice: a command fails at once, or after its deadline.
 */
export function openRedis({ settings, log }: { settings: ConnectionSettings; log: Log }): RedisConnection {
  const { servers } = settings;
  const client = servers.kind === 'cluster' ? openCluster(settings, servers.nodes) : openSingle(settings);
  let epoch = 1;
  let reported = false;
  let givenUp = false;
  const lost = (): void => {
    epoch += 1;
  };
  if (client instanceof Redis) {
    client.on('close', lost);
  } else {
    // The loss of a node that was never reached means nothing. Scripts recognise a node that takes over by its id (admit.lua).
    client.on('+node', (node: Redis) => countCloses(node, lost));
  }
  client.on('ready', () => {
    if (reported) log.info({ kind: servers.kind }, 'Redis responds again');
    reported = false;
    givenUp = false;
  });
  // Logged once an outage, not once an attempt. Only the message: the error holds the command, and so the password.
  client.on('error', (error: Error) => {
    if (!reported) log.warn({ kind: servers.kind, reason: error.message }, 'no connection to Redis');
    reported = true;
  });
  return {
    client,
    isCluster: servers.kind === 'cluster',
    isReady: () => client.status === 'ready',
    epoch: () => epoch,
    onReady: (run) => void client.on('ready', run),
    reconnect: () => {
      // Each account finds out for itself, and the connection that the first gives up takes up to two seconds to end.
      if (givenUp) return;
      givenUp = true;
      log.warn({ kind: servers.kind }, 'Redis does not respond: reconnecting');
      client.disconnect(true);
    },
    close: () => client.disconnect(),
  };
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

function openSingle(settings: ConnectionSettings): Redis {
  const { servers, sentinelPassword } = settings;
  const common = optionsOf(settings);
  if (servers.kind === 'alone') {
    return new Redis({ ...common, enableOfflineQueue: false, host: servers.host, port: servers.port, db: servers.db });
  }
  return new Redis({
    ...common,
    enableOfflineQueue: false,
    sentinels: servers.kind === 'sentinel' ? [...servers.sentinels] : [],
    name: servers.kind === 'sentinel' ? servers.name : '',
    ...(sentinelPassword !== null && { sentinelPassword: sentinelPassword.reveal() }),
    ...(settings.tls !== null && { sentinelTLS: tlsOf(settings.tls), enableTLSForSentinelMode: true }),
    sentinelRetryStrategy: pauseAfter,
    sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
    // The Sentinels report a fail-over before commands fail.
    failoverDetector: true,
    // A lost connection to the Sentinels is opened again together with that to the server; until then, commands without a reply
    // show a fail-over. ioredis would subscribe again a minute later, as with `autoResubscribe` below.
    sentinelReconnectStrategy: () => null,
  });
}

function openCluster(settings: ConnectionSettings, nodes: readonly HostAndPort[]): Cluster {
  return new Cluster([...nodes], {
    redisOptions: optionsOf(settings),
    enableOfflineQueue: false,
    scaleReads: 'master',
    maxRedirections: 3,
    retryDelayOnFailover: 50,
    retryDelayOnClusterDown: 50,
    retryDelayOnTryAgain: 20,
    retryDelayOnMoved: 0,
    slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
    slotsRefreshInterval: KEEP_ALIVE_MS,
    clusterRetryStrategy: pauseAfter,
  });
}

function optionsOf({ username, password, tls, timeoutMs }: ConnectionSettings) {
  return {
    ...(username !== null && { username }),
    ...(password !== null && { password: password.reveal() }),
    ...(tls !== null && { tls: tlsOf(tls) }),
    commandTimeout: timeoutMs,
    connectTimeout: CONNECT_TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    // A command that may have been executed is not sent again.
    autoResendUnfulfilledCommands: false,
    // The subscriber subscribes again by itself. ioredis would do so too, with an error that cannot be caught: a server that is
    // slow after a restart would end the process.
    autoResubscribe: false,
    retryStrategy: pauseAfter,
    maxLoadingRetryTime: LONGEST_PAUSE_MS,
    // A master that has become a replica: the Sentinels know the new master.
    reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
    keepAlive: KEEP_ALIVE_MS,
    noDelay: true,
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

/** Short, since a minute of the account is passing; by chance, so that replicas do not come all at once. */
function pauseAfter(attempt: number): number {
  return Math.min(LONGEST_PAUSE_MS, 25 * 2 ** Math.min(attempt, 6)) * (0.75 + Math.random() / 4);
}
