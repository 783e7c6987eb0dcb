import type { Settings } from '../config/model.ts';
import { Secret } from '../secret.ts';

/**
 * What takes effect of new settings while the gateway runs. Ports, connections and stores stay as they were opened: their
 * old settings stay in force, and are named.
 */
export function reloadable(before: Settings, next: Settings): { readonly settings: Settings; readonly kept: string[] } {
  const kept: string[] = [];
  const keep = (name: string, was: unknown, is: unknown): void => {
    if (plain(was) !== plain(is)) kept.push(name);
  };
  keep('listen', before.listen, next.listen);
  keep('redis', before.redis, next.redis);
  keep('limits', before.limits, next.limits);
  keep('cache.memory', before.cache.memoryBytes, next.cache.memoryBytes);
  const { listen, redis, limits } = before;
  const cache = { ...next.cache, memoryBytes: before.cache.memoryBytes };
  return { settings: { ...next, listen, redis, limits, cache }, kept };
}

/** Whether an account's credentials are the same, secrets included. */
export function sameCredentials(before: Settings, next: Settings, account: string): boolean {
  const of = (settings: Settings): string => plain(settings.accounts.get(account)?.credentials);
  return of(before) === of(next);
}

/** For comparing alone: it has the secrets in it, which print as masks anywhere else. */
function plain(value: unknown): string {
  return String(
    JSON.stringify(value, function (this: Record<string, unknown>, key, each: unknown) {
      const raw = this[key];
      if (raw instanceof Secret) return raw.reveal();
      return each instanceof Map ? [...each] : each;
    }),
  );
}
