import { z } from 'zod';
import { bearerToken, cidr, doc, httpUrl, id, optional, text, whole } from './option-types.ts';

/** The shape of `listen` in gateway.yaml: both ports and the trusted proxies. */
const port = () => whole(0, 65_535);

const path = () =>
  text().superRefine((value, context) => {
    // The value may be a private key: the message must not quote it.
    if (value.includes('-----BEGIN')) {
      context.addIssue({ code: 'custom', message: 'must be the path of a file, not its content' });
    }
  });

const CLIENT_AUTH = ['none', 'optional', 'required'] as const;
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

const tlsSchema = z
  .strictObject({
    certFile: doc(path(), {
      description:
        'File with the certificate of this port, followed by the intermediate certificates, PEM; relative to this file. It is watched like this file: new connections get a new certificate, and open ones stay.',
    }),
    keyFile: doc(path(), {
      description:
        'File with its private key, PEM, without passphrase. A pair that does not match is rejected, and the old one stays until the other file has arrived.',
    }),
    clientCaFile: doc(optional(path()), {
      description:
        'File with the authorities for certificates of callers, PEM. Without it, callers need no certificate.',
    }),
    clientAuth: doc(optional(z.enum(CLIENT_AUTH, { error: `must be one of ${CLIENT_AUTH.join(', ')}` })), {
      description:
        '`required`: without a certificate of `clientCaFile` a connection ends in its handshake, also that of a probe. `optional`: a certificate must be valid if there is one. `none`: none is asked for. The certificate opens the connection. On the traffic port it also identifies a tenant that has its URI in `identities`; all others need their key or token as well. Default: `required` with `clientCaFile`, else `none`. A change needs a restart.',
    }),
    minVersion: doc(z.enum(VERSIONS, { error: `must be one of ${VERSIONS.join(', ')}` }).default('TLSv1.2'), {
      description: 'Oldest accepted version. TLS 1.2 is accepted with ECDHE and AEAD only.',
    }),
  })
  .superRefine(({ clientCaFile, clientAuth }, context) => {
    if (clientCaFile === null && clientAuth !== null && clientAuth !== 'none') {
      context.addIssue({
        code: 'custom',
        path: ['clientAuth'],
        message: 'needs clientCaFile: the authorities of client certificates',
      });
    }
  });

const tls = (whose: string) =>
  doc(optional(tlsSchema), {
    description: `TLS on the port ${whose}, HTTP/1.1 only. Without it, plain HTTP. Turning it on or off needs a restart.`,
  });

const ROLES = ['metrics', 'read', 'operate'] as const;
/** Actors of audit lines that are no token. */
const RESERVED_IDS = ['anonymous', 'unknown', 'file', 'signal'];

const adminToken = z.strictObject({
  id: doc(
    id().refine((value) => !RESERVED_IDS.includes(value), {
      error: `must not be one of ${RESERVED_IDS.join(', ')}: audit lines use these names`,
    }),
    { description: 'Name of the holder, in audit lines: a person, a team or a program. Unique.' },
  ),
  token: doc(
    bearerToken().transform((token, context) => {
      if (token === null) context.addIssue({ code: 'custom', message: 'must not be empty: remove the entry instead' });
      return token ?? z.NEVER;
    }),
    { description: 'The token, sent as `Authorization: Bearer <token>`. Unique.' },
  ),
  role: doc(z.enum(ROLES, { error: `must be one of ${ROLES.join(', ')}` }), {
    description:
      '`metrics`: /metrics only, for Prometheus. `read`: also /status, /config and the page. `operate`: also purge and reload.',
  }),
});

export const listenSchema = z
  .strictObject({
    traffic: z
      .strictObject({
        host: doc(text().default('0.0.0.0'), { description: 'Address of the traffic port.' }),
        port: doc(port().default(8080), { description: 'Port for tenants. 0 means any free port.' }),
        tls: tls('for tenants'),
      })
      .prefault({}),
    admin: z
      .strictObject({
        host: doc(text().default('127.0.0.1'), {
          description: 'Address of the admin port. On any other than loopback set a token.',
        }),
        port: doc(port().default(9090), {
          description: 'Port for probes, Prometheus and people. 0 means any free port.',
        }),
        token: doc(bearerToken().prefault(''), {
          description:
            'A token of the role `operate`, named `admin`. With it, or with `tokens`, `Authorization: Bearer <token>` is required for all endpoints but /livez and /readyz. Without both, every client that reaches the port may read, purge and reload.',
        }),
        tokens: doc(z.array(adminToken).default([]), {
          description: 'More tokens, each with a role: one for Prometheus, one for each operator.',
        }),
        name: doc(
          z.string({ error: 'must be a text' }).max(100, { error: 'must have at most 100 characters' }).default(''),
          {
            description: 'Name of this deployment, such as `production`, on the page and in /status.',
          },
        ),
        runbookBaseUrl: doc(optional(httpUrl().transform((url) => url.replace(/\/$/, ''))), {
          description:
            'Address of your copy of the repository, such as `https://git.example.com/platform/patchgate/blob/main`: the page links to the runbooks in it.',
        }),
        tls: tls('for probes, Prometheus and people'),
      })
      .prefault({}),
    trustedProxies: doc(z.array(cidr()).default([]), {
      description:
        "CIDRs of proxies in front. Their `X-Forwarded-For` is trusted for the caller's address, and their `X-Forwarded-Proto` for the scheme of links. If the range is too wide, callers can choose their address. Without its proxies here, a gateway takes all callers of one for one address, which a bad caller can block (`limits.failedAuth`).",
    }),
  })
  .prefault({});

export type TlsInput = z.output<typeof tlsSchema>;
