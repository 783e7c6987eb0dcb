import { z } from 'zod';
import { Secret } from '../secret.ts';
import { doc, duration, MAX_SECRET_BYTES, optional, secretText, text } from './option-types.ts';

/** `redis` in gateway.yaml. */
const HOUR = 3_600_000;

const hostAndPort = () =>
  z
    .string({ error: 'must be host:port' })
    .regex(/^(?:\[[0-9a-fA-F:]+\]|[^\s:/@[\]]+):\d{1,5}$/, { error: 'must be host:port, such as redis-0:6379' });

const servers = () =>
  z.array(hostAndPort(), { error: 'must be a list of host:port' }).min(1, { error: 'must not be empty' });

const redisUrl = () =>
  z.string({ error: 'must be a URL' }).refine(isRedisUrl, {
    error: 'must be redis://[user:password@]host[:port][/number], or rediss:// for TLS',
  });

function isRedisUrl(value: string): boolean {
  if (value.length > MAX_SECRET_BYTES || !URL.canParse(value)) return false;
  const { protocol, hostname, pathname, search } = new URL(value);
  return /^rediss?:$/.test(protocol) && hostname !== '' && /^\/?\d{0,3}$/.test(pathname) && search === '';
}

const pem = (description: string) => doc(optional(text()), { description });

export const redisSchema = z
  .strictObject({
    url: doc(optional(redisUrl()), {
      description:
        'A single server, such as `redis://localhost:6379`; `rediss://` for TLS. One of `url`, `sentinels` and `cluster`.',
    }),
    sentinels: doc(optional(servers()), {
      description:
        'All Sentinels, as host:port; together with `name`. Where they disagree, the one that has seen the latest fail-over is believed.',
    }),
    name: doc(optional(text()), { description: "The Sentinels' name for the server, such as `mymaster`." }),
    cluster: doc(optional(servers()), {
      description:
        'Some nodes of a Cluster, as host:port; the others are learned from them. All state of an account is in one slot.',
    }),
    username: doc(optional(text()), { description: 'User of the server (ACL). Default: its default user.' }),
    password: doc(optional(secretText()), { description: 'Password of the server.' }),
    sentinelPassword: doc(optional(secretText()), { description: 'Password of the Sentinels, if they have one.' }),
    tls: doc(
      optional(
        z.strictObject({
          ca: pem('Trusted certificates, PEM. Default: those of the system.'),
          cert: pem('Certificate of this client, PEM.'),
          key: doc(optional(secretText()), { description: 'Its key, PEM.' }),
          servername: doc(optional(text()), {
            description: 'Name in the certificate of the server, if it is not its host.',
          }),
        }),
      ),
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
    const given = (['url', 'sentinels', 'cluster'] as const).filter((name) => redis[name] !== null);
    if (given.length !== 1)
      issue(given.length === 0 ? [] : [given[1] as string], 'needs exactly one of url, sentinels and cluster');
    if (redis.sentinels !== null && redis.name === null)
      issue(['sentinels'], 'needs name: the name of the server at the Sentinels');
    if (redis.sentinels === null && redis.name !== null) issue(['name'], 'needs sentinels');
    if (redis.sentinels === null && redis.sentinelPassword !== null) issue(['sentinelPassword'], 'needs sentinels');
    const inUrl = redis.url !== null && URL.canParse(redis.url) && new URL(redis.url).password !== '';
    if (inUrl && redis.password !== null) issue(['password'], 'the url has a password too: remove one of them');
    if (redis.tls !== null && (redis.tls.cert === null) !== (redis.tls.key === null)) {
      issue(['tls'], 'needs both cert and key, or neither');
    }
  })
  .transform(({ url: text, sentinels, name, cluster, timeout, replicaGrace, ...options }) => {
    const url = text === null ? null : new URL(text);
    const fromUrl = (part: 'username' | 'password') => decodeURIComponent(url?.[part] ?? '') || null;
    const password = fromUrl('password');
    return {
      ...options,
      servers: serversOf(url, sentinels, name ?? '', cluster),
      username: fromUrl('username') ?? options.username,
      password: password === null ? options.password : new Secret(password),
      tls: options.tls ?? (url?.protocol === 'rediss:' ? SYSTEM_TLS : null),
      /** Deadline of every command. */
      timeoutMs: timeout,
      /** How long the other replicas leave a silent replica its share. */
      replicaGraceMs: replicaGrace,
    };
  });

type Servers =
  | { readonly kind: 'alone'; readonly host: string; readonly port: number; readonly db: number }
  | { readonly kind: 'sentinel'; readonly sentinels: readonly HostAndPort[]; readonly name: string }
  | { readonly kind: 'cluster'; readonly nodes: readonly HostAndPort[] };

interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

const SYSTEM_TLS = { ca: null, cert: null, key: null, servername: null };
const DEFAULT_PORT = 6379;

function serversOf(url: URL | null, sentinels: string[] | null, name: string, cluster: string[] | null): Servers {
  if (sentinels !== null) return { kind: 'sentinel', sentinels: sentinels.map(parseHostAndPort), name };
  if (cluster !== null) return { kind: 'cluster', nodes: cluster.map(parseHostAndPort) };
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
