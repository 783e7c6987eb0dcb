// npm run picture:overview [-- --minutes 6 --save data.json | --load data.json] [--dashboard tenant --out tenant.png]
// Draws docs/overview.png: the Overview, with what a real Prometheus has scraped from two gateways on a real Redis while
// five tenants called them for some minutes and things went wrong. Where no Grafana runs, this shows what the dashboard
// says. Loopback only; ends by itself; kills only what it started.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { withTools } from '../../scripts/tools.mjs';
import { filledIn, seriesOf } from './picture/data.mjs';
import { colour } from './picture/format.mjs';
import { someMinutes } from './picture/minutes.mjs';
import { page, WIDTH } from './picture/page.mjs';
import { openStage } from './rig/stage.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '6' },
    save: { type: 'string' },
    load: { type: 'string' },
    dashboard: { type: 'string', default: 'overview' },
    out: { type: 'string', default: fileURLToPath(new URL('../../docs/overview.png', import.meta.url)) },
  },
});
const seconds = Number(values.minutes) * 60;
if (!(seconds >= 60 && seconds <= 540)) throw new Error('--minutes: from 1 to 9');
const SCRAPE_MS = 5_000;
const ABOUT = 'two replicas, a real Redis and Prometheus; five tenants call the Patchworks simulator';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const env = withTools(['redis-server', 'openssl', 'prometheus', 'chromium']);
const DASHBOARDS = ['overview', 'tenant', 'infrastructure'];
const dashboardOf = (/** @type {string} */ name) =>
  JSON.parse(readFileSync(inRoot(`deploy/grafana/dashboards/${name}.json`), 'utf8'));

const data = values.load === undefined ? await collect() : JSON.parse(readFileSync(values.load, 'utf8'));
if (values.save !== undefined) writeFileSync(values.save, JSON.stringify(data));
await draw(data);

/** @returns {Promise<{ filled: Record<string, import('./picture/page.mjs').Filled[]>, range: import('./picture/data.mjs').Range, marks: { at: number, colour: string }[] }>} */
async function collect() {
  const latency = { kind: /** @type {const} */ ('lognormal'), medianMs: 140, sigma: 0.6, maxMs: 4_000 };
  const stage = await openStage({ env, quota: 'narrow', secondAccount: false, scrapeMs: SCRAPE_MS, latency });
  try {
    const step = SCRAPE_MS / 1000;
    const from = Math.ceil(Date.now() / 1000 / step) * step;
    await someMinutes(stage, seconds, (line) => console.log(line));
    const range = { from, to: Math.floor(Date.now() / 1000 / step) * step, step };
    /** @type {Record<string, import('./picture/page.mjs').Filled[]>} */
    const filled = {};
    for (const name of DASHBOARDS) {
      const panels = dashboardOf(name).panels.filter((/** @type {any} */ { type }) => type !== 'row');
      filled[name] = [];
      for (const panel of panels) {
        filled[name].push({ panel, series: await seriesOf(stage.prometheus, panel, range) });
      }
    }
    return { filled, range, marks: await marksOf(stage, range) };
  } finally {
    await stage.close();
  }
}

/** Where a value is itself the time, in milliseconds. @param {import('./rig/stage.mjs').Stage} stage @param {import('./picture/data.mjs').Range} range */
async function marksOf({ prometheus }, range) {
  const marks = [];
  for (const { expr, iconColor, useValueForTime } of dashboardOf('overview').annotations.list) {
    if (!useValueForTime) continue;
    const series = await prometheus.overTime(filledIn(expr, range), range);
    const times = new Set(series.flatMap(({ values: found }) => found.map(([, value]) => Math.round(value / 1000))));
    for (const at of times) if (at >= range.from && at <= range.to) marks.push({ at, colour: colour(iconColor) });
  }
  return marks;
}

/** @param {Awaited<ReturnType<typeof collect>>} collected */
async function draw({ filled, ...collected }) {
  const dashboard = dashboardOf(values.dashboard);
  const { html, height } = page({ dashboard, filled: filled[values.dashboard] ?? [], ...collected, about: ABOUT });
  const executablePath = (env['PATH'] ?? '')
    .split(':')
    .map((folder) => `${folder}/chromium`)
    .find((path) => existsSync(path));
  const browser = await chromium.launch({
    ...(executablePath !== undefined && { executablePath }),
    env: /** @type {Record<string, string>} */ (env),
    // Without a sandbox it also runs as root, as in a container; the page is our own text and loads nothing.
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  try {
    const tab = await browser.newPage({ viewport: { width: WIDTH, height }, deviceScaleFactor: 1 });
    await tab.setContent(html);
    const png = await tab.screenshot({ fullPage: true });
    writeFileSync(values.out, png);
    console.log(`${values.out}: ${Math.round(png.length / 1024)} KiB`);
  } finally {
    await browser.close();
  }
}
