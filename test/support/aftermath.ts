import { expect } from 'vitest';
import { eventually, type Running, type RunOptions, run } from './gateway.ts';
import { ManualClock } from './manual-clock.ts';

/** A slot whose request may still arrive is held for the upstream's timeout besides; nothing is held longer. */
const EVERY_SLOT_IS_OVER_MS = 10 * 60_000;

export interface Watched extends Running {
  /** Whatever was done to the gateway: it serves the next request, nothing is in flight, and no slot is left open. */
  unharmed(): Promise<void>;
}

/** A gateway whose time the test moves, so that a slot nobody settled can be told from one that is kept for its minute. */
export async function watched(options: Omit<RunOptions, 'clock'> = {}): Promise<Watched> {
  const clock = new ManualClock();
  const gateway = await run({ ...options, clock });
  return {
    ...gateway,
    async unharmed() {
      expect((await gateway.fetch('/_gateway/whoami')).status).toBe(200);
      await eventually(async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 0, 'none in flight');
      clock.advance(EVERY_SLOT_IS_OVER_MS);
      expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(0);
      expect(gateway.logs().filter((line) => line['level'] === 'error')).toEqual([]);
    },
  };
}
