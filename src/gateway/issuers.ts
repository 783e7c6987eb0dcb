import { createJwksReader } from '../adapters/undici/fetch-jwks.ts';
import { createIdentityStore, type IdentityStore, type TokenIdentity } from '../auth/identity-store.ts';
import { createKeySet, fixedKeySet, type KeySet, parseJwks, type ReadJwks, type ReadText } from '../auth/key-set.ts';
import type { KeyEntry } from '../auth/tenant.ts';
import type { Clock } from '../clock.ts';
import { bearerToken } from '../config/option-types.ts';
import { createFileReaders, reasonOf } from '../config/read-file.ts';
import type { JwksSettings, Settings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';
import { addressRanges } from '../server/address-ranges.ts';
import type { SharedDependencies } from './dependencies.ts';

/** The keys of an issuer, with the settings they were made from. */
export interface IssuerKeys {
  readonly issuer: string;
  readonly settings: JwksSettings;
  readonly keys: KeySet;
}

type Shared = Pick<SharedDependencies, 'clock' | 'log' | 'metrics' | 'redactor'>;

/** The keys of all issuers. Known ones with the same settings are used again, so that they stay while their server is away. */
export function createIssuerKeys(shared: Shared, settings: Settings, known: readonly IssuerKeys[]): IssuerKeys[] {
  return [...settings.identity.issuers.values()].map(
    ({ id, jwks }) =>
      known.find((other) => other.issuer === id && deepEqual(other.settings, jwks)) ?? {
        issuer: id,
        settings: jwks,
        keys: keySetOf(id, jwks, shared),
      },
  );
}

function keySetOf(issuer: string, jwks: JwksSettings, { clock, log, redactor }: Shared): KeySet {
  if (jwks.kind === 'url') {
    return createKeySet({ issuer, read: jwksReader(jwks, clock, (token) => redactor.addPassing(token)), clock, log });
  }
  const parsed = parseJwks(jwks.jwks);
  // It was valid when the configuration was loaded.
  if (!parsed.ok) throw new Error(`the keys of issuer ${issuer}: ${parsed.reason}`);
  return fixedKeySet(parsed.keys, parsed.count, clock.now());
}

/** @param onToken receives each token for the server, which is a secret */
export function jwksReader(
  { url, ca, tokenFile }: Extract<JwksSettings, { kind: 'url' }>,
  clock: Clock,
  onToken: (token: string) => void,
): ReadJwks {
  const fileReader = createFileReaders({ clock });
  const readToken = async (path: string): Promise<ReadText> => {
    try {
      const text = (await fileReader()(path)).trim();
      onToken(text);
      return text !== '' && bearerToken().safeParse(text).success
        ? { ok: true, text }
        : { ok: false, reason: `the file ${path} is no token: it goes into a header` };
    } catch (error) {
      return { ok: false, reason: `cannot read the file ${path} (${reasonOf(error)})` };
    }
  };
  return createJwksReader({ url, ca, clock, readToken: tokenFile === null ? null : () => readToken(tokenFile) });
}

export function identityStoreOf(
  { identity, tenants }: Settings,
  issuerKeys: readonly IssuerKeys[],
  { clock, metrics, keyUses }: Shared & Pick<SharedDependencies, 'keyUses'>,
): IdentityStore {
  const certificates = new Map<string, KeyEntry>();
  const byIssuer = new Map<string, TokenIdentity[]>([...identity.issuers.keys()].map((id) => [id, []]));
  for (const tenant of tenants.values()) {
    for (const each of tenant.identities) {
      const { id, allow } = each;
      const cidrs = each.cidrs && addressRanges(each.cidrs);
      const caller = { id, allow, cidrs, tenant, use: keyUses.of(tenant.id, id) };
      if (each.kind === 'token') byIssuer.get(each.issuer)?.push({ ...caller, claims: each.claims });
      else certificates.set(each.uri, { ...caller, kind: 'identity', expiresAtMs: null });
    }
  }
  const issuers = issuerKeys.flatMap(({ issuer: id, keys }) => {
    const settings = identity.issuers.get(id);
    return settings === undefined ? [] : [{ ...settings, keys, identities: byIssuer.get(id) ?? [] }];
  });
  return createIdentityStore({ issuers, certificates, clock, meter: metrics });
}
