import type { KeyUseStore } from '../../../auth/key-use.ts';
import { type Client, loadScript, runScript } from '../client/scripts.ts';

const merge = loadScript(import.meta.url, 'merge');
const forget = loadScript(import.meta.url, 'forget');

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
