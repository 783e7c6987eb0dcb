import { z } from 'zod';
import { doc, duration, id, narrowing, optional, text } from './option-types.ts';

/** The shape of `identity` in gateway.yaml, and of `identities` of a tenant. */

/** Signatures by a private key. With `HS*` everybody who can verify a token can make one, and `none` is no signature. */
const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA'],
] as const;

/** Longer ones are no names of a caller, and become metric labels. */
const LONGEST_NAME = 256;
const name = () => text().max(LONGEST_NAME, { error: `must be at most ${LONGEST_NAME} characters` });

const audience = () => z.union([name(), z.array(name()).min(1, { error: 'must hold at least one audience' })]);

const jwks = z
  .strictObject({
    url: doc(
      optional(
        z.string({ error: 'must be a URL' }).refine(isSafeUrl, {
          error: 'must be an https URL without credentials in it; http only to this host (127.0.0.1, [::1], localhost)',
        }),
      ),
      {
        description:
          'Where the keys are read: at the start, every 5 minutes, and when a token names an unknown key, at most every 30 s. At most 1 MiB within 5 s; redirects are not followed. While it cannot be read, the keys of the last time stay in use.',
      },
    ),
    caFile: doc(optional(text()), {
      description:
        'File with the authorities of the URL, PEM, instead of those of the system; relative to this file. It is watched like this file.',
    }),
    tokenFile: doc(optional(text()), {
      description:
        'File with a token that is sent as `Authorization: Bearer` to the URL; relative to this file. It is read for each request, because it may be renewed at any time.',
    }),
    file: doc(optional(text()), {
      description: 'File with the keys, instead of a URL; relative to this file. It is watched like this file.',
    }),
  })
  .superRefine(({ url, file, caFile, tokenFile }, context) => {
    const report = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message });
    if ((url === null) === (file === null)) report([], 'needs either a url or a file');
    if (url === null && caFile !== null) report(['caFile'], 'needs a url');
    if (url === null && tokenFile !== null) report(['tokenFile'], 'needs a url');
  });

const issuer = z
  .strictObject({
    issuer: doc(name(), { description: 'The claim `iss` of its tokens, exactly.' }),
    audience: doc(audience(), {
      description:
        'The claim `aud` of its tokens, or a list of which a token must have one. Use a value of its own for this gateway: a token for another service is then worth nothing here.',
    }),
    jwks: doc(jwks, { description: 'Its public keys, as a JSON Web Key Set (RFC 7517).' }),
    algorithms: doc(
      z
        .array(z.enum(ALGORITHMS, { error: `must be one of ${ALGORITHMS.join(', ')}` }))
        .min(1, { error: 'must hold at least one algorithm' })
        .default(['RS256', 'ES256']),
      { description: 'Accepted signatures. `HS*` and `none` are not possible.' },
    ),
    clockTolerance: doc(duration(0, 5 * 60_000).prefault('30s'), {
      description: 'By how much its clock may differ from that of the gateway, for `exp` and `nbf`.',
    }),
  })
  .transform(({ audience, clockTolerance, ...options }) => ({
    ...options,
    audiences: [audience].flat(),
    clockToleranceMs: clockTolerance,
  }));

export const identitySchema = z
  .strictObject({
    issuers: doc(z.record(id(), issuer, { error: 'must be a map of issuers' }).default({}), {
      description:
        'Issuers of tokens (JWT) that callers may send as `Authorization: Bearer` instead of a key, by name. See identities.md.',
    }),
  })
  .prefault({});

/** The checks for identities of two tenants look at every selection of claims. */
const MOST_CLAIMS = 8;
/** Claims that every token of an issuer may have alike, or that say when it is valid: they identify no caller. */
const NO_IDENTITY = ['iss', 'aud', 'exp', 'nbf', 'iat', 'jti'];
const claimError = 'must be a text, a number, true or false';

const claimName = () =>
  name().refine((claim) => !NO_IDENTITY.includes(claim), {
    error: `must identify a caller: not one of ${NO_IDENTITY.join(', ')}`,
  });

export const tenantIdentity = z
  .strictObject({
    ...narrowing('identity'),
    id: doc(id().optional(), {
      description:
        'Name of the identity in logs and metrics. Default: `ISSUER:SUBJECT`, `ISSUER:claim=value,…`, or the URI of the certificate.',
    }),
    issuer: doc(id().optional(), { description: 'Name of the issuer in `identity.issuers`.' }),
    subject: doc(name().optional(), { description: 'The claim `sub` of the token, exactly.' }),
    claims: doc(
      z
        .record(claimName(), z.union([name(), z.number({ error: claimError }), z.boolean({ error: claimError })]), {
          error: 'must be a map of claims',
        })
        .refine((claims) => Object.keys(claims).length <= MOST_CLAIMS, {
          error: `must be at most ${MOST_CLAIMS} claims`,
        })
        .optional(),
      {
        description:
          'Claims that the token must have, all of them, with exactly these values; a list in the token must contain the value.',
      },
    ),
    certificate: doc(
      z
        .string({ error: 'must be a URI' })
        .refine(isUri, { error: 'must be a URI such as spiffe://example.org/ns/billing/sa/worker' })
        .optional(),
      {
        description:
          'URI in the `subjectAltName` of a client certificate, exactly. It counts on a traffic port with `tls.clientCaFile`, for requests without key and token.',
      },
    ),
  })
  .superRefine(({ issuer: of, subject, claims, certificate }, context) => {
    const report = (path: string[], message: string): void => context.addIssue({ code: 'custom', path, message });
    const names = subject !== undefined || Object.keys(claims ?? {}).length > 0;
    if (certificate !== undefined) {
      if (of !== undefined || subject !== undefined || claims !== undefined)
        report(['certificate'], 'cannot be together with issuer, subject or claims');
    } else if (of === undefined) report([], 'needs an issuer with a subject or claims, or a certificate');
    else if (!names) report([], 'needs a subject or claims: every token of the issuer would be accepted');
    if (subject !== undefined && claims !== undefined && 'sub' in claims)
      report(['claims', 'sub'], 'is there as subject');
  })
  .transform(({ id, issuer = '', subject, claims = {}, certificate, ...narrowed }) => {
    if (certificate !== undefined) {
      return { ...narrowed, kind: 'certificate' as const, id: id ?? certificate, uri: certificate };
    }
    const named = Object.entries(claims).map(([claim, value]) => `${claim}=${value}`);
    const name = [...(subject === undefined ? [] : [subject]), ...named].join(',');
    return {
      ...{ ...narrowed, kind: 'token' as const, id: id ?? `${issuer}:${name}`, issuer },
      /** A token must have all of them; the subject is `sub`. */
      claims: new Map(Object.entries({ ...(subject !== undefined && { sub: subject }), ...claims })),
    };
  });

export type IssuerInput = z.output<typeof issuer>;

const HERE = ['127.0.0.1', '[::1]', 'localhost'];

/** With keys from plain HTTP, everybody on the way could make tokens. */
function isSafeUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, username, password, hostname } = new URL(value);
  if (username !== '' || password !== '') return false;
  return protocol === 'https:' || (protocol === 'http:' && HERE.includes(hostname));
}

/** Node writes a name with quotes, commas or backslashes in another form. */
function isUri(value: string): boolean {
  return value.length <= LONGEST_NAME && /^[a-z][a-z0-9+.-]*:[^\s"',\\]+$/i.test(value) && /^[!-~]+$/.test(value);
}
