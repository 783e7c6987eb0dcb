import { loadSettings, renderProblems } from '../../src/config/load.ts';
import type { Settings } from '../../src/config/settings.ts';
import { parseLine, type RecordedRequest } from '../../src/plan/access-line.ts';
import { type PlanReport, replay } from '../../src/plan/replay.ts';

export const MIDNIGHT = Date.parse('2026-11-02T00:00:00Z');

export interface LineFacts {
  /** When the request ended, in milliseconds after midnight. */
  readonly endMs: number;
  readonly durationMs?: number;
  readonly [field: string]: unknown;
}

/** An access line of a read that took 100 ms at the upstream, with other facts where they are given. */
export function accessLine({ endMs, ...facts }: LineFacts): string {
  return JSON.stringify({
    ...{ level: 'info', time: new Date(MIDNIGHT + endMs).toISOString(), service: 'patchgate', requestId: 'r-1' },
    ...{ method: 'GET', route: '/api/v1/flows', path: '/api/v1/flows', status: 200, tenant: 'billing', key: 'only' },
    ...{ cache: 'miss', waitMs: 0, upstreamMs: 100, durationMs: 100, bytes: 512, client: '10.0.0.1', account: 'main' },
    ...{ upstreamStatus: 200, msg: 'request' },
    ...facts,
  });
}

/** The settings of a gateway.yaml, given as data; what is not given is as small as it can be. */
export async function settingsWith(more: Record<string, unknown> = {}): Promise<Settings> {
  const config = {
    accounts: { main: { credentials: [{ id: 'p', apiKey: 'fake-key' }] } },
    tenants: { billing: {}, reader: {} },
    cache: { rules: [] },
    ...more,
  };
  const readFile = async () => JSON.stringify(config);
  const loaded = await loadSettings({ path: 'plan.yaml', env: {}, readFile });
  if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
  return loaded.settings;
}

/** Replays lines with a configuration. */
export async function planOf(lines: readonly LineFacts[], more: Record<string, unknown> = {}): Promise<PlanReport> {
  async function* requests(): AsyncGenerator<RecordedRequest> {
    for (const line of [...lines].sort((a, b) => a.endMs - b.endMs)) {
      const parsed = parseLine(accessLine(line));
      if (parsed.kind !== 'request') throw new Error(`no request: ${JSON.stringify(parsed)}`);
      yield parsed.request;
    }
  }
  const report = await replay(await settingsWith(more), requests());
  if (report === null) throw new Error('no request');
  return report;
}
