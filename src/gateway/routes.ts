import type { CredentialSettings, FixedCredentialSettings, RouteSettings, Settings } from '../config/settings.ts';
import type { Route } from '../routing/match-route.ts';
import { parameterName, SIGNATURE_PARAMETER } from '../routing/refused-query.ts';
import { rewriteOf } from '../routing/rewrite.ts';
import { headerName } from '../upstream/headers.ts';

/** The routes with all that follows from their upstreams and credentials. */
export function routesOf(settings: Settings): Route[] {
  return settings.routes.map((route) => {
    const { match, rewriteLinks, rewrite, credential } = route;
    const upstream = settings.upstreams.get(route.upstream);
    if (upstream === undefined) throw new Error(`no upstream ${route.upstream}`);
    const secrets = credentialsOf(settings, upstream.account, route).filter(isFixed);
    const namesIn = (carrier: FixedCredentialSettings['kind']) =>
      secrets.filter(({ kind }) => kind === carrier).map(({ name }) => name);
    return {
      ...{ match, upstream, rewriteLinks, credential },
      template: match.text.slice(match.text.indexOf(' ') + 1),
      rewrite: rewrite === null ? null : rewriteOf(match, rewrite),
      secretHeaders: new Set(namesIn('header').map(headerName)),
      secretParameters: namesIn('query').map(parameterName),
      // A signature is the credential of webhooks and callbacks, and of nothing else.
      starts: secrets.some(({ name }) => parameterName(name) === SIGNATURE_PARAMETER),
    };
  });
}

/** The credentials that requests of a route may use. */
function credentialsOf(
  { accounts }: Settings,
  account: string,
  { credential }: RouteSettings,
): readonly CredentialSettings[] {
  const all = accounts.get(account)?.credentials ?? [];
  return credential === null ? all : all.filter(({ id }) => id === credential);
}

/** A secret that is sent as it is, in a header or parameter of any name. */
export function isFixed(credential: CredentialSettings): credential is FixedCredentialSettings {
  return credential.kind === 'header' || credential.kind === 'query';
}
