import { EVERYTHING } from '../cache/invalidation-log.ts';
import type { Purge } from '../edge/purge.ts';
import type { Dependencies } from './dependencies.ts';

export type Purged =
  | { readonly ok: true; readonly purged: { readonly accounts: readonly string[] } }
  | { readonly ok: false; readonly detail: string };

/** Drops what is meant, on all replicas: resolves when none of them serves it any more. */
export async function purgeCache({ settings, cache, log }: Dependencies, purge: Purge): Promise<Purged> {
  const known = [...settings.accounts.keys()];
  const { account, path, tag } = purge;
  if (account !== null && !known.includes(account)) {
    return { ok: false, detail: `There is no account "${account}"; known are ${known.join(', ')}.` };
  }
  const accounts = account === null ? known : [account];
  const everything = path === null && tag === null;
  const dropped = everything ? EVERYTHING : { patterns: path === null ? [] : [path], tags: tag === null ? [] : [tag] };
  await Promise.all(accounts.map((each) => cache.invalidations.invalidate(each, dropped)));
  log.info({ accounts, path: path === null ? null : `/${path.join('/')}`, tag }, 'cache purged');
  return { ok: true, purged: { accounts } };
}
