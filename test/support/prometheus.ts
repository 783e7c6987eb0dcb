import { spawn } from 'node:child_process';
import { folder } from './process.ts';
import { freePort, until } from './redis.ts';

/** Labels of an alert that is pending or firing. */
export interface Alerting {
  readonly state: 'pending' | 'firing';
  readonly labels: Readonly<Record<string, string>>;
}

export interface EvaluatedRule {
  readonly name: string;
  readonly health: 'ok' | 'err' | 'unknown';
  readonly lastError?: string;
}

export interface Prometheus {
  readonly url: string;
  alerts(): Promise<readonly Alerting[]>;
  rules(): Promise<readonly EvaluatedRule[]>;
  /** How many series a query has now. */
  count(query: string): Promise<number>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A real Prometheus with this configuration, killed with the test by its own process id. */
export async function prometheus(configuration: Record<string, unknown>): Promise<Prometheus> {
  const files = await folder({ 'prometheus.yaml': JSON.stringify(configuration) });
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const args = [
    `--config.file=${files.path}/prometheus.yaml`,
    `--storage.tsdb.path=${files.path}/data`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
  ];
  const child = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  let said = '';
  child.stderr.on('data', (chunk) => {
    said += chunk;
  });
  child.once('error', (error) => {
    said += error.message;
  });
  const close = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    await files[Symbol.asyncDispose]();
  };
  const ask = async <T>(path: string): Promise<T> =>
    ((await (await fetch(`${url}/api/v1/${path}`)).json()) as { data: T }).data;
  try {
    await until('Prometheus is ready', async () => (await fetch(`${url}/-/ready`).catch(() => null))?.ok === true);
  } catch (error) {
    await close();
    throw new Error(`${String(error)}\n${said}`);
  }
  return {
    url,
    alerts: async () => (await ask<{ alerts: Alerting[] }>('alerts')).alerts,
    rules: async () =>
      (await ask<{ groups: { rules: EvaluatedRule[] }[] }>('rules')).groups.flatMap((group) => group.rules),
    count: async (query) => (await ask<{ result: unknown[] }>(`query?${new URLSearchParams({ query })}`)).result.length,
    [Symbol.asyncDispose]: close,
  };
}
