import type { Secret } from '../secret.ts';
import type { HostAndPort, RedisSettings } from './model.ts';
import type { RedisInput } from './redis-schema.ts';

const DEFAULT_PORT = 6379;

/** From the options of `redis`, which are valid, to one kind of connection. */
export function redisOf(input: RedisInput, secret: (value: string) => Secret): RedisSettings {
  const url = input.url === undefined ? null : new URL(input.url);
  const password = url !== null && url.password !== '' ? decodeURIComponent(url.password) : input.password;
  const username = url !== null && url.username !== '' ? decodeURIComponent(url.username) : input.username;
  const { tls } = input;
  return {
    servers: serversOf(input, url),
    username: username ?? null,
    password: password === undefined ? null : secret(password),
    sentinelPassword: input.sentinelPassword === undefined ? null : secret(input.sentinelPassword),
    tls:
      tls === undefined && url?.protocol !== 'rediss:'
        ? null
        : {
            ca: tls?.ca ?? null,
            cert: tls?.cert ?? null,
            key: tls?.key === undefined ? null : secret(tls.key),
            servername: tls?.servername ?? null,
          },
    prefix: input.prefix,
    onOutage: input.onOutage,
    timeoutMs: input.timeout,
    replicaGraceMs: input.replicaGrace,
  };
}

function serversOf({ sentinels, name, cluster }: RedisInput, url: URL | null): RedisSettings['servers'] {
  if (sentinels !== undefined) return { kind: 'sentinel', sentinels: sentinels.map(hostAndPort), name: name ?? '' };
  if (cluster !== undefined) return { kind: 'cluster', nodes: cluster.map(hostAndPort) };
  const db = Number(url?.pathname.slice(1) ?? 0);
  const port = url === null || url.port === '' ? DEFAULT_PORT : Number(url.port);
  return { kind: 'alone', host: unbracketed(url?.hostname ?? ''), port, db };
}

function hostAndPort(text: string): HostAndPort {
  const colon = text.lastIndexOf(':');
  return { host: unbracketed(text.slice(0, colon)), port: Number(text.slice(colon + 1)) };
}

function unbracketed(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host;
}
