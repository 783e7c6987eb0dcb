import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import {
  BILLING_KEY,
  type Config,
  configuration,
  PRIMARY,
  READER_KEY,
  type Running,
  run,
  sha256,
} from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';

const RUN_MS = 40_000;
/** Share of the requests. A caller that comes a moment later may find that another took the slot. */
const TOLERANCE = 0.05;

interface Usage {
  readonly requests: number;
  readonly rejections: Record<string, number>;
  readonly waitMs: { readonly p50: number; readonly p95: number };
  readonly upstreamRequests: number;
  readonly budgets?: Record<string, { readonly used: number }>;
}
interface Report {
  readonly tenants: Record<string, { readonly recorded: Usage; readonly predicted: Usage }>;
  readonly accounts: Record<string, { readonly recorded: Usage; readonly predicted: Usage }>;
  readonly lines: { readonly requests: number; readonly unreadable: number };
}

/** A tenant that wants more than its rate, one that wants little; reads that are cached, and writes that invalidate them. */
function configurationWith(rate: number): (upstream: string) => Config {
  const key = (text: string) => [{ id: 'only', sha256: sha256(text) }];
  return (upstream) =>
    configuration(upstream, {
      accounts: {
        main: {
          quota: { limit: 240, ceiling: 180, burst: 20 },
          budgets: { operations: { match: ['POST /api/v1/flows/*/start'], limit: 60, per: 'month' } },
          credentials: [PRIMARY],
        },
      },
      cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '3s', staleWhileRevalidate: '2s' }] },
      tenants: {
        billing: { keys: key(BILLING_KEY), quota: { rate, burst: 10, maxWait: '3s' } },
        reader: { keys: key(READER_KEY), quota: { rate: 60, burst: 10, maxWait: '3s' } },
      },
      // The lines of this test are read by it.
      log: { level: 'warn', access: 'all' },
    });
}

/** The same load for each gateway: as many requests a second, whatever the responses are. */
async function load({ fetch }: Running): Promise<void> {
  const calls: Promise<unknown>[] = [];
  const call = (key: string, path: string, method = 'GET') =>
    calls.push(fetch(path, { method, headers: { Authorization: key } }).then((response) => response.arrayBuffer()));
  await new Promise<void>((resolve) => {
    let turn = 0;
    const timer = setInterval(() => {
      turn += 1;
      call(BILLING_KEY, `/api/v1/scripts/${turn % 50}`);
      if (turn % 3 === 0) call(BILLING_KEY, `/api/v1/flows/${turn % 4}`);
      if (turn % 5 === 0) call(READER_KEY, `/api/v1/flows/${turn % 4}?page=${turn % 2}`);
      if (turn % 10 === 0) call(READER_KEY, `/api/v1/flows/${turn % 4}/start`, 'POST');
      if (turn < RUN_MS / 250) return;
      clearInterval(timer);
      resolve();
    }, 250);
  });
  await Promise.all(calls);
}

test('a prediction agrees with the run that was recorded, and with a run under the limit that it is asked about', {
  timeout: RUN_MS + 60_000,
}, async () => {
  const simulator = { switches: { responseLatency: { kind: 'uniform', minMs: 100, maxMs: 400 } } } as const;
  await using narrow = await run({ simulator, config: configurationWith(60) });
  await using wide = await run({ simulator, config: configurationWith(120) });
  await Promise.all([load(narrow), load(wide)]);
  await using files = await folder({});
  const log = join(files.path, 'narrow.log.gz');
  await writeFile(log, gzipSync(narrow.logText()));

  const planned = async (rate: number): Promise<Report> => {
    const config = join(files.path, `gateway-${rate}.yaml`);
    await writeFile(config, JSON.stringify(configurationWith(rate)('http://127.0.0.1:1')));
    await using planning = patchgate(['plan', '--log', log, '--config', config, '--json']);
    expect((await planning.exited).code, planning.stderr()).toBe(0);
    return JSON.parse(planning.stdout()) as Report;
  };
  const same = await planned(60);
  expect(same.lines).toMatchObject({ unreadable: 0, requests: narrow.logs().filter(isRequest).length });
  for (const [tenant, { recorded, predicted }] of Object.entries(same.tenants)) {
    expect(predicted.requests, tenant).toBe(recorded.requests);
    agree(tenant, predicted, recorded);
  }
  expect(same.accounts['main']?.recorded.upstreamRequests).toBe(narrow.simulator.stats().arrived);

  const more = await planned(120);
  for (const tenant of ['billing', 'reader']) {
    agree(`${tenant} with the other limit`, more.tenants[tenant]?.predicted, recordedBy(wide, tenant));
  }
});

const isRequest = (line: Record<string, unknown>): boolean => line['msg'] === 'request';

/** As much as {@link agree} compares of a run. */
function recordedBy(gateway: Running, tenant: string): Pick<Usage, 'requests' | 'rejections' | 'upstreamRequests'> {
  const lines = gateway.logs().filter((line) => isRequest(line) && line['tenant'] === tenant);
  const rejections: Record<string, number> = {};
  for (const { code } of lines) if (typeof code === 'string') rejections[code] = (rejections[code] ?? 0) + 1;
  const sent = (line: Record<string, unknown>) =>
    Number(line['attempts'] ?? (line['upstreamMs'] === null ? 0 : 1)) + (line['refreshed'] === true ? 1 : 0);
  return { requests: lines.length, rejections, upstreamRequests: lines.reduce((sum, line) => sum + sent(line), 0) };
}

function agree(
  what: string,
  predicted: Usage | undefined,
  recorded: Pick<Usage, 'requests' | 'rejections' | 'upstreamRequests'>,
): void {
  const near = (name: string, a: number, b: number) =>
    expect(Math.abs(a - b), `${what}: ${name}: ${a} predicted, ${b} recorded`).toBeLessThanOrEqual(
      Math.max(3, TOLERANCE * recorded.requests),
    );
  const rejected = ({ rejections }: Pick<Usage, 'rejections'>) => Object.values(rejections).reduce((a, b) => a + b, 0);
  expect(predicted, what).toBeDefined();
  if (predicted === undefined) return;
  near('rejected', rejected(predicted), rejected(recorded));
  near('upstream requests', predicted.upstreamRequests, recorded.upstreamRequests);
}
