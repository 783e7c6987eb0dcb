import { z } from 'zod';
import { isOwnHeader } from '../upstream/headers.ts';
import { doc, headerSecret, httpUrl, id, secretText, text } from './option-types.ts';

/** The shape of `credentials` of an account. */
const credentialId = () => doc(id(), { description: 'Name of the credential in logs and metrics.' });

const apiKey = z
  .strictObject({
    id: credentialId(),
    apiKey: doc(headerSecret(), { description: 'A Patchworks API key; sent verbatim as `Authorization`.' }),
  })
  .transform(({ id, apiKey }) => ({ kind: 'apiKey' as const, id, apiKey }));

const login = z
  .strictObject({
    id: credentialId(),
    login: z.strictObject({
      url: doc(httpUrl(), {
        description: 'URL of the login, such as https://app.wearepatchworks.com/fabric/api/login.',
      }),
      username: doc(text(), { description: "User for the login. The token has this user's rights." }),
      password: doc(secretText(), { description: 'Its password.' }),
      usernameField: doc(
        z
          .string({ error: 'must be a name' })
          .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'must be the name of a JSON field' })
          .default('username'),
        {
          description: 'JSON field of the username; `email` for the older form of the login.',
        },
      ),
    }),
  })
  .transform(({ id, login }) => ({ kind: 'login' as const, id, ...login }));

const header = z
  .strictObject({
    id: credentialId(),
    header: z.strictObject({
      name: doc(
        z
          .string({ error: 'must be the name of a header' })
          .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/, { error: 'must be the name of a header' })
          .refine((name) => !isOwnHeader(name), { error: 'must be another header: the gateway sets this one itself' }),
        {
          description:
            "Header that carries the secret, such as `patchworks-signature` for a callback. A caller's own header of this name, in any spelling, is dropped on routes that use the credential.",
        },
      ),
      value: doc(headerSecret(), { description: 'The secret; sent verbatim.' }),
    }),
  })
  .transform(({ id, header }) => ({ kind: 'header' as const, id, ...header }));

const query = z
  .strictObject({
    id: credentialId(),
    query: z.strictObject({
      name: doc(
        z.string({ error: 'must be the name of a parameter' }).regex(/^[A-Za-z0-9_.~-]+$/, {
          error: 'must be the name of a parameter: letters, digits, and any of _ . ~ -',
        }),
        {
          description:
            'Query parameter that carries the secret, such as `patchworks_signature` for a webhook; added behind the query of the caller. A caller that sends one of this name gets 400. Prefer `header` where the upstream accepts it: a URL stands in the logs of proxies.',
        },
      ),
      value: doc(secretText(), { description: 'The secret, as it is before it is escaped for the URL.' }),
    }),
  })
  .transform(({ id, query }) => ({ kind: 'query' as const, id, ...query }));

export const credentialList = doc(
  z
    .array(z.union([apiKey, login, header, query]), { error: 'must be a list of credentials' })
    .min(1, { error: 'must hold at least one credential' }),
  {
    description:
      'Credentials in order of preference: the first is used, and the next one after a 401 of Patchworks, unless the route names one. Each has an `id` and one of `apiKey`, `login`, `header` and `query`.',
  },
);
