import { z } from 'zod';
import type { Secret } from '../secret.ts';
import { doc, duration, MAX_SECRET_BYTES, secretText, text } from './option-types.ts';
import type { HostAndPort, RedisSettings } from './settings.ts';

/** The shape of `redis` in gateway.yaml, and its settings. */
const HOUR = 3_600_000;

const hostAndPort = () =>
  z
    .string({ error: 'must be host:port' })
    .regex(/^(?:\[[0-9a-fA-F:]+\]|[^\s:/@[\]]+):\d{1,5}$/, { error: 'must be host:port, such as redis-0:6379' });

const servers = () =>
  z.array(hostAndPort(), { error: 'must be a list of host:port' }).min(1, { error: 'must not be empty' });

const redisUrl = () =>
  z.string({ error: 'must be a URL' }).superRefine((value, context) => {
    const url = URL.canParse(value) ? new URL(value) : null;
    const plain =
      url !== null &&
      value.length <= MAX_SECRET_BYTES &&
      /^rediss?:$/.test(url.protocol) &&
      url.hostname !== '' &&
      /^\/?\d{0,3}$/.test(url.pathname) &&
      url.search === '';
    if (!plain) {
      context.addIssue({
        code: 'custom',
        message: 'must be redis://[user:password@]host[:port][/number], or rediss:// for TLS',
      });
    }
  });

const pem = (description: string) => doc(text().optional(), { description });

export const redisSchema = z
  .strictObject({
    url: doc(redisUrl().optional(), {
      description:
        'A single server, such as `redis://localhost:6379`; `rediss://` for TLS. One of `url`, `sentinels` and `cluster`.',
    }),
    sentinels: doc(servers().optional(), {
      description:
        'All Sentinels, as host:port; together with `name`. Where they disagree, the one that has seen the latest fail-over is believed.',
    }),
    name: doc(text().optional(), { description: "The Sentinels' name for the server, such as `mymaster`." }),
    cluster: doc(servers().optional(), {
      description:
        'Some nodes of a Cluster, as host:port; the others are learned from them. All state of an account is in one slot.',
    }),
    username: doc(text().optional(), { description: 'User of the server (ACL). Default: its default user.' }),
    password: doc(secretText().optional(), { description: 'Password of the server.' }),
    sentinelPassword: doc(secretText().optional(), { description: 'Password of the Sentinels, if they have one.' }),
    tls: doc(
      z
        .strictObject({
          ca: pem('Trusted certificates, PEM. Default: those of the system.'),
          cert: pem('Certificate of this client, PEM.'),
          key: doc(secretText().optional(), { description: 'Its key, PEM.' }),
          servername: doc(text().optional(), {
            description: 'Name in the certificate of the server, if it is not its host.',
          }),
        })
        .optional(),
      {
        description:
          'TLS to the servers; `{}` uses the certificates of the system. Read PEM texts from a file: `${file:/path}`.',
      },
    ),
    prefix: doc(
      z
        .string({ error: 'must be a text' })
        .regex(/^[A-Za-z0-9:._-]{1,64}$/, { error: 'must be 1 to 64 letters, digits and : . _ -' })
        .default('patchgate'),
      {
        description:
          'Prefix of all keys. Gateways that share an account need the same prefix; separate gateways need different ones.',
      },
    ),
    onOutage: doc(z.enum(['local', 'closed'], { error: 'must be local or closed' }).default('local'), {
      description:
        'Behaviour of a replica that has lost Redis. `local`: after 2.5 s it goes on with an equal share of the ceiling. `closed`: it answers 503 until Redis is back.',
    }),
    timeout: doc(duration(10, 5_000).prefault('100ms'), {
      description:
        'Deadline of a command. A late command has no effect, even if Redis executes it. A longer deadline makes callers wait for a slow Redis.',
    }),
    replicaGrace: doc(duration(10_000, HOUR).prefault('2m'), {
      description:
        'How long a silent replica keeps its share of the ceiling, because it may be alive and only cut off from Redis. Shorter: a crashed replica costs less. Longer: a replica that is cut off stays within the common ceiling for longer. With `closed` no share is reserved.',
    }),
  })
  .superRefine((redis, context) => {
    const issue = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message });
    const given = (['url', 'sentinels', 'cluster'] as const).filter((name) => redis[name] !== undefined);
    if (given.length !== 1)
      issue(given.length === 0 ? [] : [given[1] as string], 'needs exactly one of url, sentinels and cluster');
    if (redis.sentinels !== undefined && redis.name === undefined)
      issue(['sentinels'], 'needs name: the name of the server at the Sentinels');
    if (redis.sentinels === undefined && redis.name !== undefined) issue(['name'], 'needs sentinels');
    if (redis.sentinels === undefined && redis.sentinelPassword !== undefined)
      issue(['sentinelPassword'], 'needs sentinels');
    const inUrl = redis.url !== undefined && URL.canParse(redis.url) && new URL(redis.url).password !== '';
    if (inUrl && redis.password !== undefined) issue(['password'], 'the url has a password too: remove one of them');
    if (redis.tls !== undefined && (redis.tls.cert === undefined) !== (redis.tls.key === undefined)) {
      issue(['tls'], 'needs both cert and key, or neither');
    }
  });

export type RedisInput = z.output<typeof redisSchema>;

const DEFAULT_PORT = 6379;

/** Turns the validated options of `redis` into the settings of one kind of connection. */
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
  if (sentinels !== undefined)
    return { kind: 'sentinel', sentinels: sentinels.map(parseHostAndPort), name: name ?? '' };
  if (cluster !== undefined) return { kind: 'cluster', nodes: cluster.map(parseHostAndPort) };
  const db = Number(url?.pathname.slice(1) ?? 0);
  const port = url === null || url.port === '' ? DEFAULT_PORT : Number(url.port);
  return { kind: 'alone', host: unbracketed(url?.hostname ?? ''), port, db };
}

function parseHostAndPort(text: string): HostAndPort {
  const colon = text.lastIndexOf(':');
  return { host: unbracketed(text.slice(0, colon)), port: Number(text.slice(colon + 1)) };
}

function unbracketed(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host;
}
