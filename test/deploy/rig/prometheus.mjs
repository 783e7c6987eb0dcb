// A real Prometheus that scrapes the gateways, asked through the HTTP API as Grafana asks it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { end, freePort, run, until } from './children.mjs';

/** @typedef {{ metric: Record<string, string>, values: [seconds: number, value: number][] }} Series */

const RULES = `groups:
  - name: test
    rules:
      # Always firing, so that what the dashboards mark alerts with can be asked for.
      - alert: PatchgateTest
        expr: vector(1)
`;

/**
 * @param {{ targets: string[], scrapeMs: number, env: NodeJS.ProcessEnv }} options targets: host and port of the admin ports
 */
export async function startPrometheus({ targets, scrapeMs, env }) {
  const folder = await mkdtemp(join(tmpdir(), 'patchgate-prometheus-'));
  const port = await freePort();
  const configuration = {
    global: { scrape_interval: `${scrapeMs}ms`, scrape_timeout: `${scrapeMs}ms`, evaluation_interval: `${scrapeMs}ms` },
    rule_files: [join(folder, 'rules.yaml')],
    scrape_configs: [
      { job_name: 'patchgate', static_configs: [{ targets, labels: { namespace: 'rig' } }] },
      // Something else that is scraped, and made with the same library or not: it must not get into any panel.
      { job_name: 'prometheus', static_configs: [{ targets: [`127.0.0.1:${port}`] }] },
    ],
  };
  await writeFile(join(folder, 'rules.yaml'), RULES);
  await writeFile(join(folder, 'prometheus.yaml'), JSON.stringify(configuration));
  const args = [
    `--config.file=${join(folder, 'prometheus.yaml')}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
  ];
  const { child, said } = run('prometheus', args, env);
  const url = `http://127.0.0.1:${port}`;
  const close = async () => {
    await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  const ready = async () => (await fetch(`${url}/-/ready`).catch(() => null))?.ok;
  await until('Prometheus is ready', ready).catch(async (error) => {
    await close();
    throw new Error(`${error.message}\n${said()}`);
  });
  return { url, close, ...questions(url) };
}

/** @param {string} url */
function questions(url) {
  /** @param {string} path @param {Record<string, string>} fields */
  const ask = async (path, fields) => {
    const answer = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(fields)}`);
    const body = /** @type {any} */ (await answer.json());
    if (body.status !== 'success') throw new Error(`${body.error}: ${JSON.stringify(fields)}`);
    return body.data;
  };
  return {
    /** @param {string} query @param {number} at seconds @returns {Promise<Series[]>} */
    async now(query, at = Date.now() / 1000) {
      const { resultType, result } = await ask('query', { query, time: String(at) });
      if (resultType !== 'vector') throw new Error(`a ${resultType}, not a vector: ${query}`);
      return result.map((/** @type {any} */ each) => ({ metric: each.metric, values: [point(each.value)] }));
    },
    /** @param {string} query @param {{ from: number, to: number, step: number }} range seconds @returns {Promise<Series[]>} */
    async overTime(query, { from, to, step }) {
      const { result } = await ask('query_range', { query, start: `${from}`, end: `${to}`, step: `${step}` });
      return result.map((/** @type {any} */ each) => ({ metric: each.metric, values: each.values.map(point) }));
    },
    /** As a variable's `label_values(metric, label)`. @param {string} label @param {string} selector @returns {Promise<string[]>} */
    labelValues: (label, selector) => ask(`label/${label}/values`, { 'match[]': selector }),
  };
}

/** @param {[number, string]} raw @returns {[number, number]} */
function point([seconds, value]) {
  return [
    seconds,
    value === '+Inf' ? Number.POSITIVE_INFINITY : value === '-Inf' ? Number.NEGATIVE_INFINITY : Number(value),
  ];
}
