import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { doc, text, whole } from './fields.ts';

/** The shape of `listen` in gateway.yaml: the two ports, and who may stand in front of them. */
const port = () => whole(0, 65_535);

const cidr = () =>
  z.string({ error: 'must be a CIDR such as 10.0.0.0/8' }).superRefine((value, context) => {
    if (!ipaddr.isValidCIDR(value)) context.addIssue({ code: 'custom', message: 'must be a CIDR such as 10.0.0.0/8' });
  });

const path = () =>
  text().superRefine((value, context) => {
    // What stands there may be a key.
    if (value.includes('-----BEGIN')) {
      context.addIssue({ code: 'custom', message: 'must be the path of a file, not what is in it' });
    }
  });

const CLIENT_AUTH = ['none', 'optional', 'required'] as const;
const VERSIONS = ['TLSv1.2', 'TLSv1.3'] as const;

const tlsSchema = z
  .strictObject({
    certFile: doc(path(), {
      description:
        'File with the certificate of this port, then those that vouch for it, PEM; relative to this file. Watched like this file: a new one shows to new connections, and cuts none.',
    }),
    keyFile: doc(path(), {
      description:
        'File with its private key, PEM, without passphrase. A pair that does not match is refused, and the old one stays until the other file has arrived.',
    }),
    clientCaFile: doc(path().optional(), {
      description:
        'File with the authorities whose certificates callers may show, PEM. Left out: callers are asked for none.',
    }),
    clientAuth: doc(z.enum(CLIENT_AUTH, { error: `must be one of ${CLIENT_AUTH.join(', ')}` }).optional(), {
      description:
        '`required`: without a certificate of `clientCaFile` a connection ends in its handshake, probes included. `optional`: one that is shown must be valid. `none`: nobody is asked. The certificate opens the connection and names nobody: key and token are needed all the same. Default: `required` with `clientCaFile`, else `none`. Changing it needs a restart.',
    }),
    minVersion: doc(z.enum(VERSIONS, { error: `must be one of ${VERSIONS.join(', ')}` }).default('TLSv1.2'), {
      description: 'Oldest version that is spoken. TLS 1.2 with ECDHE and AEAD alone; older callers are refused.',
      shown: 'TLSv1.2',
    }),
  })
  .superRefine(({ clientCaFile, clientAuth }, context) => {
    if (clientCaFile === undefined && clientAuth !== undefined && clientAuth !== 'none') {
      context.addIssue({
        code: 'custom',
        path: ['clientAuth'],
        message: 'needs clientCaFile: who vouches for callers',
      });
    }
  });

const tls = (whose: string) =>
  doc(tlsSchema.optional(), {
    description: `TLS on the port ${whose}, HTTP/1.1 only. Left out: plain HTTP. Turning it on or off needs a restart.`,
  });

export const listenSchema = z
  .strictObject({
    traffic: z
      .strictObject({
        host: doc(text().default('0.0.0.0'), { description: 'Address the traffic port listens on.', shown: '0.0.0.0' }),
        port: doc(port().default(8080), { description: 'Port for tenants. 0 takes any free one.', shown: '8080' }),
        tls: tls('for tenants'),
      })
      .prefault({}),
    admin: z
      .strictObject({
        host: doc(text().default('127.0.0.1'), {
          description: 'Address the admin port listens on. On anything but loopback set a token.',
          shown: '127.0.0.1',
        }),
        port: doc(port().default(9090), {
          description: 'Port for probes, Prometheus and people. 0 takes any free one.',
          shown: '9090',
        }),
        token: doc(z.string({ error: 'must be a text' }).default(''), {
          description:
            'Set: `Authorization: Bearer <token>` is needed for all but /livez and /readyz. Empty: whoever reaches the port may read it.',
          shown: '""',
        }),
        tls: tls('for probes, Prometheus and people'),
      })
      .prefault({}),
    trustedProxies: doc(z.array(cidr()).default([]), {
      description:
        'CIDRs whose `X-Forwarded-For` is believed, and whose `X-Forwarded-Proto` says whether links in answers begin with https. Too wide a range lets callers choose the address they are known by.',
      shown: '[]',
    }),
  })
  .prefault({});

export type ListenInput = z.output<typeof listenSchema>;
export type TlsInput = z.output<typeof tlsSchema>;
