import type { KeyUseStore } from '../../../auth/key-use.ts';
import { type Client, createScript, runScript } from '../client/scripts.ts';

/** The hash of a prefix that no replica uses any more ends after this. */
const KEPT_SECONDS = 400 * 24 * 60 * 60;

/** ARGV: a name and its value in turn. The greatest value of each name is kept. */
const merge = createScript(`
local kept = {}
for i = 1, #ARGV, 2 do
  local value = tonumber(ARGV[i + 1])
  local known = tonumber(redis.call('HGET', KEYS[1], ARGV[i]))
  if known == nil or known < value then
    redis.call('HSET', KEYS[1], ARGV[i], value)
    known = value
  end
  kept[#kept + 1] = known
end
redis.call('EXPIRE', KEYS[1], ${KEPT_SECONDS})
return kept`);
/** Removes the names whose value, a minute with or without a sign, is before ARGV[1]. */
const forget = createScript(`
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if math.abs(tonumber(all[i + 1]) or 0) < tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], all[i]) end
end`);

/** Redis does nothing else meanwhile: some 1 ms. */
const NAMES_A_CALL = 1_000;

/** Uses are a hash for all tenants, with a field for each configured key: `tenant/key`. */
export function createKeyUseStore({
  client,
  prefix,
  onReady,
}: {
  readonly client: Client;
  readonly prefix: string;
  readonly onReady: KeyUseStore['onReady'];
}): KeyUseStore {
  const hash = `${prefix}:key-uses`;
  return {
    onReady,
    async merge(uses) {
      const all = [...uses];
      const kept: number[] = [];
      for (let at = 0; at < all.length; at += NAMES_A_CALL) {
        const reply = await runScript(client, merge, [hash], all.slice(at, at + NAMES_A_CALL).flat());
        kept.push(...(reply as unknown[]).map(Number));
      }
      return kept;
    },
    async forgetBefore(minute) {
      await runScript(client, forget, [hash], [minute]);
    },
  };
}
