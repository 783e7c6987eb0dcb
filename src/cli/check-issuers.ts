import { parseJwks } from '../auth/key-set.ts';
import { systemClock } from '../clock.ts';
import type { IssuerSettings, JwksSettings, Settings } from '../config/settings.ts';

/**
 * Describes each issuer of tokens, and whether its keys can be read from here. If they cannot, that is a warning: the gateway starts
 * all the same, and this machine may not reach what the gateway reaches.
 */
export async function checkIssuers({ identity, tenants }: Settings): Promise<string[]> {
  const lines = await Promise.all([...identity.issuers.values()].map((issuer) => linesOf(issuer, tenants)));
  return lines.flat();
}

async function linesOf(issuer: IssuerSettings, tenants: Settings['tenants']): Promise<string[]> {
  const { id, algorithms, audiences, jwks } = issuer;
  const known = [...tenants.values()].flatMap(({ identities }) =>
    identities.filter((each) => each.kind === 'token' && each.issuer === id),
  );
  const read = await readKeys(jwks);
  return [
    `issuer ${id}: ${issuer.issuer} for ${audiences.join(', ')}, ${algorithms.join(', ')}`,
    `  identities of tenants: ${known.length}`,
    read.ok
      ? `  keys from ${placeOf(jwks)}: ${read.count}`
      : `warning: identity.issuers.${id}.jwks: ${placeOf(jwks)}: ${read.reason}; its tokens get 503 until the gateway can read the keys`,
  ];
}

async function readKeys(jwks: JwksSettings): Promise<{ ok: true; count: number } | { ok: false; reason: string }> {
  if (jwks.kind === 'file') return parseJwks(jwks.jwks);
  // Loaded here, because most configurations need no HTTP client for a check.
  const { jwksReader } = await import('../gateway/issuers.ts');
  const text = await jwksReader(jwks, systemClock, () => {})(new AbortController().signal);
  return text.ok ? parseJwks(text.text) : text;
}

function placeOf(jwks: JwksSettings): string {
  return jwks.kind === 'file' ? jwks.path : jwks.url;
}
