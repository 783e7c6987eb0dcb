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
   * Grows whenever a connection to a server is lost, before anything can be sent on a new one: what was known of the
   * server's memory is in doubt from then on.
   */
  epoch(): number;
  /** Calls `run` each time commands can be sent again. */
  onReady(run: () => void): void;
  /** Gives up connections that stand and do not answer. */
  reconnect(): void;
  /** Does not wait for anything. */
  close(): void;
}

const CONNECT_TIMEOUT_MS = 1_000;
const LONGEST_PAUSE_MS = 500;
const KEEP_ALIVE_MS = 5_000;

/**
 * A connection that goes on trying for ever, and starts while Redis is down. Nothing is queued while there is none, and
 * nothing is sent twice: who asks hears of it at once, or after the deadline.
 */
export function openRedis({ settings, log }: { settings: ConnectionSettings; log: Log }): RedisConnection {
  const { servers } = settings;
  const client = servers.kind === 'cluster' ? openCluster(settings, servers.nodes) : openSingle(settings);
  let epoch = 1;
  let told = false;
  let givenUp = false;
  const lost = (): void => {
    epoch += 1;
  };
  if (client instanceof Redis) {
    client.on('close', lost);
  } else {
    // One that was never reached tells nothing; one that takes over is told by its own id (admit.lua).
    client.on('+node', (node: Redis) => countCloses(node, lost));
  }
  client.on('ready', () => {
    if (told) log.info({ kind: servers.kind }, 'Redis is there again');
    told = false;
    givenUp = false;
  });
  // Once an outage, not once an attempt. By its message alone: the error itself holds the command, and so the password.
  client.on('error', (error: Error) => {
    if (!told) log.warn({ kind: servers.kind, reason: error.message }, 'no connection to Redis');
    told = true;
  });
  return {
    client,
    isCluster: servers.kind === 'cluster',
    isReady: () => client.status === 'ready',
    epoch: () => epoch,
    onReady: (run) => void client.on('ready', run),
    reconnect: () => {
      // Each account finds out for itself, and what the first has given up takes up to two seconds to end.
      if (givenUp) return;
      givenUp = true;
      log.warn({ kind: servers.kind }, 'Redis does not answer: connecting anew');
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
    // Hears of a fail-over from the Sentinels, instead of from commands that fail.
    failoverDetector: true,
    // Of its connections to the Sentinels. One that is lost is made anew together with that to the server, and until then commands
    // without an answer tell of a fail-over. By itself it would listen anew a minute later, as with `autoResubscribe` below.
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
    // What may have been carried out is not sent again.
    autoResendUnfulfilledCommands: false,
    // Whoever listens subscribes anew by itself. ioredis would do so too, and let nobody catch it when that fails: a server that
    // is slow to answer when it comes back would end the process.
    autoResubscribe: false,
    retryStrategy: pauseAfter,
    maxLoadingRetryTime: LONGEST_PAUSE_MS,
    // A master that has become a replica: the Sentinels know the new one.
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
