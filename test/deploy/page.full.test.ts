import { hostname } from 'node:os';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StatusDocument } from '../../src/admin/status/document.ts';
import { consoleErrorsOf, contrastOf, openBrowser } from '../support/browser.ts';
import { type Config, configuration, PRIMARY, type Running, run, sha256, TENANTS } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { freePort, redisServer, until } from '../support/redis.ts';
import { runWorkload } from '../support/workload.ts';

const TOKEN = 'fake-admin-token-of-the-page';
const keyOf = (tenant: string) => `fake-key-${tenant}`;
const tenant = (id: string, quota: Config = {}) => [
  id,
  { keys: [{ id: 'only', sha256: sha256(keyOf(id)) }], quota: { burst: 200, maxWait: '0s', ...quota } },
];

let browser: Browser;
beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(() => browser.close());

/** A page of its own, closed with the test, that must not complain. */
async function open(url: string, viewport = { width: 1280, height: 900 }) {
  const context = await browser.newContext({ viewport });
  const page = await context.newPage();
  const complaints = consoleErrorsOf(page);
  await page.goto(url);
  return { page, complaints, [Symbol.asyncDispose]: () => context.close() };
}

const ask = async (gateway: Running, id: string, times = 1, path = '/api/v1/flow-runs') => {
  for (let i = 0; i < times; i++)
    await (await fetch(`${gateway.url}${path}`, { headers: { 'X-API-Key': keyOf(id) } })).arrayBuffer();
};
const statusOf = async (gateway: Running): Promise<StatusDocument> =>
  (await fetch(`${gateway.adminUrl}/status`)).json() as Promise<StatusDocument>;
const textOf = async (page: Page, selector: string) => (await page.locator(selector).first().textContent()) ?? '';
/** The rows of the tenants, as they stand there. */
const rowsOf = (page: Page) =>
  page
    .locator('#tenants tr')
    .evaluateAll((rows) => rows.map((row) => [...row.querySelectorAll('.name, td')].map((cell) => cell.textContent)));
const ofTerm = (page: Page, dl: string, term: string) => textOf(page, `${dl} div:has(dt:text-is("${term}")) dd`);

describe('the page', () => {
  test('shows each budget as a bar with its projected end', async () => {
    const match = ['GET /api/v1/flow-runs/**'];
    const budgets = { reads: { match, limit: 10, per: 'day' }, operations: { match, limit: 1_000_000 } };
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          accounts: { main: { credentials: [PRIMARY], budgets } },
          tenants: Object.fromEntries([tenant('billing')]),
        }),
      cold: true,
    });
    await ask(gateway, 'billing', 9);
    await using shown = await open(gateway.adminUrl);
    const { page, complaints } = shown;
    const lines = () => page.locator('.budget').allTextContents();
    await until(
      'the use stands there',
      async () => (await lines())[0]?.startsWith('reads 9 of 10 a day used (90 %)') === true,
    );
    expect((await lines())[1]).toMatch(
      /^operations 9 of 1,000,000 a month used \(< 1 %\)At the rate so far < 1 % used at the end; reset in \d+ (d|h|min|s)$/,
    );
    expect(await page.locator('.budget .spent').first().getAttribute('style')).toBe('width: 90%;');
    await ask(gateway, 'billing', 3);
    await until('it is used up', async () => (await lines())[0]?.includes('Used up: reset in') === true);
    expect(await textOf(page, '#alerts')).toContain(
      'main: the budget reads is used up; its requests are rejected until the reset.',
    );
    await until('the tenant has a note', async () => (await textOf(page, '#tenants')).includes('reads used up'));
    expect(complaints).toEqual([]);
  });

  test('shows what /status says, tenants by use, and goes on by itself', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          tenants: Object.fromEntries([tenant('billing'), tenant('orders'), tenant('reader', { rate: 1, burst: 2 })]),
          cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '60s' }] },
        }),
    });
    await using shown = await open(gateway.adminUrl);
    const { page } = shown;
    await ask(gateway, 'orders', 5);
    await ask(gateway, 'orders', 4, '/api/v1/flows/1');
    await ask(gateway, 'reader', 6);
    await ask(gateway, 'billing', 2);
    await until('the tenants stand by use', async () =>
      JSON.stringify(await rowsOf(page)).startsWith('[["orders","9"'),
    );
    // Tokens come back while it is read: the last column is compared below.
    expect((await rowsOf(page)).map((row) => row.slice(0, 6))).toEqual([
      ['orders', '9', '0', '0', '0', '3'],
      ['reader', '6', '4', '0', '0', '0'],
      ['billing', '2', '0', '0', '0', '0'],
    ]);
    const status = await statusOf(gateway);
    const { main } = status.accounts;
    expect(await textOf(page, '.used')).toBe(String(main?.slotsInUse));
    expect(await textOf(page, '.of')).toContain(`of ${main?.ceiling} slots`);
    expect((await rowsOf(page))[1]?.[6]).toBe(`${status.tenants['reader']?.quota.remaining}/2`);
    expect(await ofTerm(page, '.account dl', 'Limit')).toBe('240 a minute');
    expect(await ofTerm(page, '#cache', 'Entries in memory')).toBe(String(status.cache.entries));
    expect(await ofTerm(page, '#cache', 'Hit share')).toBe('18 %');
    expect(status.cache.recent).toEqual({ reads: 17, hits: 3 });
    expect(await ofTerm(page, '#config', 'Revision')).toBe(status.revision);
    expect(await ofTerm(page, '#gateway', 'Version')).toBe(status.version);
    expect(await page.locator('.credentials li').allTextContents()).toEqual([
      '●primary API key, in use',
      '○spare API key, spare',
    ]);
    await ask(gateway, 'billing', 9);
    await until('it goes on', async () => (await rowsOf(page))[0]?.slice(0, 2).join() === 'billing,11');
    expect(await textOf(page, '.used')).toBe(String((await statusOf(gateway)).accounts['main']?.slotsInUse));
    expect(shown.complaints).toEqual([]);
  });

  test('shows an observed tenant with what would be rejected, and a limit that Patchworks has lowered', async () => {
    const [trial, settings] = tenant('trial', { rate: 1, burst: 2 });
    const expired = { id: 'old', sha256: sha256('fake-old-key'), expires: '2020-01-01T00:00:00Z' };
    const tenants = Object.fromEntries([
      ['billing', { keys: [{ id: 'only', sha256: sha256(keyOf('billing')) }, expired], quota: { burst: 200 } }],
      [trial, { ...(settings as Config), enforcement: 'observe' }],
    ]);
    await using gateway = await run({ config: (upstream) => configuration(upstream, { tenants }) });
    await using shown = await open(gateway.adminUrl);
    const { page, complaints } = shown;
    await ask(gateway, 'trial', 6);
    gateway.simulator.setAccount({ limit: 120 });
    await ask(gateway, 'billing', 4);
    await until('the lowered limit stands there', async () =>
      (await ofTerm(page, '.account dl', 'Limit')).endsWith('Patchworks says 120'),
    );
    await until('the tenants stand by use', async () => (await rowsOf(page))[1]?.[1] === '4');
    expect((await rowsOf(page)).map((row) => row.slice(0, 4))).toEqual([
      ['trial', '6', '0', '4'],
      ['billing', '4', '0', '0'],
    ]);
    expect(await ofTerm(page, '.account dl', 'Ceiling')).toBe('117 a minute');
    expect(await textOf(page, '#tenants tr .small')).toMatch(/^observed, 1 a minute, 2 at once, key \S+ in use$/);
    expect(await textOf(page, '#tenants tr:nth-child(2) .small')).toMatch(/, key only in use, key old expired$/);
    expect(await textOf(page, 'body')).toContain('Patchworks advertises a lower limit than configured');
    if (process.env['PICTURES'] !== undefined) {
      await page.screenshot({ path: `${process.env['PICTURES']}/wide.png`, fullPage: true });
      await page.setViewportSize({ width: 390, height: 844 });
      await page.screenshot({ path: `${process.env['PICTURES']}/narrow.png`, fullPage: true });
    }
    expect(complaints).toEqual([]);
  });

  test('draws the slots in use, with ceiling and limit, and says the same in words', async () => {
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { tenants: Object.fromEntries([tenant('billing')]) }),
    });
    await ask(gateway, 'billing', 100);
    await using shown = await open(gateway.adminUrl);
    const chart = shown.page.locator('svg.chart');
    await until('the chart is drawn', async () => ((await chart.locator('.own').getAttribute('d')) ?? '').length > 20);
    const height = async (name: string) => (await chart.locator(name).boundingBox())?.height ?? 0;
    const lineAt = async (name: string) => (await chart.locator(name).boundingBox())?.y ?? 0;
    // 101 of 240 slots, on a chart that is 120 pixels high and has a little room above the limit.
    expect(await height('.own')).toBeGreaterThan(40);
    expect(await height('.own')).toBeLessThan(60);
    expect(await lineAt('.limit')).toBeLessThan(await lineAt('.ceiling'));
    expect(await chart.getAttribute('aria-label')).toMatch(/^Slots in use over the last 15 minutes: now 10\d/);
    expect(shown.complaints).toEqual([]);
  });

  test('shows the cooldown after a 429 of the upstream, with the time that is left, and its end', async () => {
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { tenants: Object.fromEntries([tenant('billing')]) }),
    });
    await using shown = await open(gateway.adminUrl);
    const { page } = shown;
    expect(await page.locator('.cooldown-note').isVisible()).toBe(false);
    const fault = { kind: 'status', status: 429, headers: { 'Retry-After': '6' }, body: '' } as const;
    gateway.simulator.fault({ match: 'GET /api/v1/**', times: 1, fault });
    await ask(gateway, 'billing');
    await page.locator('.cooldown-note').waitFor();
    expect(await textOf(page, '.cooldown-note')).toMatch(/^Cooldown, [1-6] s left: Patchworks answered 429$/);
    expect(await textOf(page, '#alerts li.bad')).toContain('main: in cooldown');
    expect(await page.locator('svg .cooldown').count()).toBeGreaterThan(0);
    await page.locator('.cooldown-note').waitFor({ state: 'hidden' });
    expect(shown.complaints).toEqual([]);
  });

  test('has words where there is nothing yet', async () => {
    await using gateway = await run({
      cold: true,
      config: (upstream) =>
        configuration(upstream, {
          tenants: Object.fromEntries([tenant('billing'), tenant('orders'), tenant('reader')]),
        }),
    });
    await using shown = await open(gateway.adminUrl);
    await shown.page.locator('#alerts .good').waitFor();
    expect(await textOf(shown.page, '#tenants-note')).toMatch(/^3 tenants; counts of the last \d+ s\.$/);
    expect((await rowsOf(shown.page)).map((row) => row[1])).toEqual(['0', '0', '0']);
    expect(await ofTerm(shown.page, '#cache', 'Hit share')).toBe('no reads yet');
    expect(await textOf(shown.page, '#alerts')).toBe('Nothing. All is well.');
    expect(shown.complaints).toEqual([]);
  });

  test('on a phone nothing has to be pushed aside, with three accounts and two hundred tenants of long names', async () => {
    const many = Array.from({ length: 200 }, (_, i) =>
      tenant(`a-service-with-quite-a-long-name-of-the-data-platform-${i}`.slice(0, 63)),
    );
    await using gateway = await run({
      cold: true,
      config: (upstream) => {
        const tenants = Object.fromEntries(
          many.map(([id, each], i) => [id, { ...(each as Config), account: `account-${i % 3}` }]),
        );
        const account = (i: number) => ({ credentials: [{ id: 'primary', apiKey: `fake-patchworks-key-${i}` }] });
        const upstreams = [0, 1, 2].map((i) => [`core-${i}`, { account: `account-${i}`, origin: upstream }]);
        return configuration(upstream, {
          tenants,
          accounts: Object.fromEntries([0, 1, 2].map((i) => [`account-${i}`, account(i)])),
          upstreams: Object.fromEntries(upstreams),
          routes: [0, 1, 2].map((i) => ({ match: `* /api/v${i}/**`, upstream: `core-${i}` })),
        });
      },
    });
    await using shown = await open(gateway.adminUrl, { width: 360, height: 740 });
    const { page } = shown;
    await page.locator('#others tr').waitFor();
    expect([await page.locator('.account').count(), await page.locator('#tenants tr').count()]).toEqual([3, 25]);
    expect(await textOf(page, '#others .name')).toBe('175 other tenants');
    const widths = () =>
      page.evaluate('[document.documentElement.scrollWidth, document.documentElement.clientWidth]') as Promise<
        number[]
      >;
    expect(await widths()).toEqual([360, 360]);
    await page.setViewportSize({ width: 320, height: 600 });
    expect((await widths())[0]).toBe(320);
    expect(shown.complaints).toEqual([]);
  });

  test('a name or a message that is markup is shown as text, and runs nothing', async () => {
    await using gateway = await run();
    await gateway.reload((upstream) =>
      configuration(upstream, { limits: { '<img src=x onerror=document.title="hit">': 1 } }),
    );
    await using shown = await open(gateway.adminUrl);
    const { page } = shown;
    await page.locator('#problems li').first().waitFor();
    expect(await page.locator('#problems').textContent()).toContain('<img src=x onerror=');
    // And should ever anything worse get past the rules for names: it is the stream that is not trusted.
    await page.route('**/events', async (route) => {
      const answer = await (await fetch(`${gateway.adminUrl}/status`)).text();
      const { tenants: _, ...status } = JSON.parse(answer) as StatusDocument;
      const hostile = '"><script>document.title="hit"</script><img src=x onerror=document.title="hit">';
      const row = {
        account: hostile,
        accounts: [hostile],
        disabled: true,
        waiting: 1,
        recent: { requests: 1, refused: 0, saved: 0 },
      };
      const more = { quota: { limit: 1, remaining: 1, resetMs: 0, burst: 1 }, budgets: { [hostile]: { left: 0 } } };
      const keys = [{ id: hostile, kind: 'key', expires: null, expiresInMs: null, lastUsed: null, unusedForMs: 0 }];
      const frame = {
        status: {
          ...status,
          revision: hostile,
          accounts: { [hostile]: status.accounts['main'], two: status.accounts['main'] },
        },
        tenants: { count: 1, busiest: [{ id: hostile, ...row, ...more, keys }], rest: { ...row.recent, waiting: 0 } },
        history: status.history,
      };
      await route.fulfill({ contentType: 'text/event-stream', body: `data: ${JSON.stringify(frame)}\n\n` });
    });
    await page.reload();
    await page.locator('.account h3').first().waitFor();
    expect(await textOf(page, '.account h3')).toContain('<script>');
    expect(await textOf(page, '#tenants .name')).toContain('onerror=');
    expect([await page.locator('main img, main script').count(), await page.title()]).toEqual([
      0,
      `patchgate · ${hostname()}`,
    ]);
    expect(shown.complaints).toEqual([]);
  });
});

test('Redis: that it is there and with how many replicas, that it is gone, and that it is back', async () => {
  await using redis = await redisServer();
  const config = (upstream: string) => configuration(upstream, { redis: { url: redis.url } });
  await using gateway = await run({ config });
  await using shown = await open(gateway.adminUrl);
  const { page } = shown;
  const state = (term: string) => ofTerm(page, '#state', term);
  await until('it is there', async () => (await state('Answers')) === 'yes' && (await state('Replicas')) === '1');
  expect(await state('Kept in')).toBe('Redis');
  await redis.kill();
  await page.locator('#alerts .bad').waitFor();
  expect(await textOf(page, '#alerts .bad')).toContain('Redis cannot be used');
  expect(await state('Answers')).toBe('no');
  await redis.start();
  await until('it is back', async () => (await state('Answers')) === 'yes');
  expect(shown.complaints).toEqual([]);
});

test('a drain is shown while it lasts, and then that the gateway is gone', async () => {
  await using gateway = await run({ config: (upstream) => configuration(upstream, { drain: { delay: '2s' } }) });
  await using shown = await open(gateway.adminUrl);
  await shown.page.locator('.account').waitFor();
  const drained = gateway.drain();
  await until('the page shows the drain', async () => (await textOf(shown.page, '#connection')) === 'Live, draining');
  expect(await textOf(shown.page, '#alerts')).toContain('This replica is draining');
  await drained;
  await shown.page.locator('#connection.lost').waitFor();
});

describe('under load', () => {
  test('the numbers move with it, and are those of /status when it rests; it can be read by day and by night, at a desk and on a phone', async () => {
    const pictures = process.env['PAGE_PICTURES'];
    // For a picture slower: every stall of the machine is a gap in the chart.
    await using team = await runWorkload(pictures ? 12 : 60);
    const { gateway } = team;
    await using shown = await open(gateway.adminUrl);
    const { page } = shown;
    await page.locator('.account').waitFor();
    const seen = new Set<string>();
    const look = setInterval(() => void textOf(page, '.used').then((used) => seen.add(used)), 100);
    await team.work(7);
    team.useExternally(20);
    await team.work(3);
    team.throttle(40);
    await team.work(5);
    clearInterval(look);
    expect(seen.size).toBeGreaterThan(10);
    await lookAt(page, pictures);

    await until('nothing is in flight', async () => (await statusOf(gateway)).inFlight === 0);
    const counts = (rows: readonly (readonly (string | null)[])[]) =>
      JSON.stringify(rows.map((row) => row.slice(0, 2)));
    await until('what is shown is what is said', async () => {
      const { tenants } = await statusOf(gateway);
      const byUse = Object.entries(tenants).map(([id, { recent }]) => [id, recent.requests] as const);
      byUse.sort(([a, one], [b, other]) => other - one || (a < b ? -1 : 1));
      const said = byUse.map(([id, requests]) => [id, requests.toLocaleString('en')]);
      return counts(said) === counts(await rowsOf(page));
    });
    const points = ((await page.locator('svg .own').getAttribute('d')) ?? '').match(/L/g) ?? [];
    // A quarter of an hour by five seconds, as far as a busy machine kept up with a clock sixty times as fast.
    expect(points.length).toBeGreaterThan(40);
    expect(await page.locator('svg .cooldown').count()).toBeGreaterThan(0);
    expect(shown.complaints).toEqual([]);
  }, 180_000);

  /**
   * With `pictures`: leaves them in that folder. docs/page.png is one of them:
   * `PAGE_PICTURES=/tmp npx vitest run test/deploy/page.full.test.ts -t 'under load'`
   */
  async function lookAt(page: Page, pictures: string | undefined): Promise<void> {
    for (const colorScheme of ['light', 'dark'] as const)
      for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme });
        // The chart is drawn anew, in its new width, with the next frame.
        await until('it is drawn', async () => {
          const chart = page.locator('svg.chart').first();
          return (
            Math.abs(
              Number((await chart.getAttribute('viewBox'))?.split(' ')[2]) - ((await chart.boundingBox())?.width ?? 0),
            ) < 1
          );
        });
        const { looked, faint } = await contrastOf(page);
        expect(faint).toEqual([]);
        expect(looked).toBeGreaterThan(80);
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width);
        if (pictures) await page.screenshot({ path: `${pictures}/page-${width}-${colorScheme}.png`, fullPage: true });
      }
  }
});

describe('with a token', () => {
  const guarded = (upstream: string) =>
    configuration(upstream, {
      listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0, token: TOKEN } },
    });
  const enter = async (page: Page, token: string) => {
    await page.locator('#token').fill(token);
    await page.locator('#gate button').click();
  };

  test('asks for it, says that a wrong one is wrong, shows everything with the right one and keeps it for the tab alone', async () => {
    await using gateway = await run({ config: guarded });
    await using shown = await open(gateway.adminUrl);
    const { page } = shown;
    await page.locator('#gate').waitFor();
    expect(await textOf(page, '#gate-why')).toContain('needs an admin token');
    await enter(page, 'fake-wrong-token');
    await until('the page shows why', async () =>
      (await textOf(page, '#gate-why')).includes('not the token of this gateway'),
    );
    const body = await page.locator('body').textContent();
    for (const told of ['main', 'billing', 'primary']) expect(body?.match(new RegExp(`\\b${told}\\b`))).toBeNull();
    await enter(page, TOKEN);
    await page.locator('.account').waitFor();
    expect(await textOf(page, '.account h3')).toBe('main');
    expect([await page.locator('#gate').isVisible(), page.url()]).toEqual([false, `${gateway.adminUrl}/`]);
    await page.reload();
    await page.locator('.account').waitFor();
    const other = await page.context().newPage();
    await other.goto(gateway.adminUrl);
    await other.locator('#gate').waitFor();
    expect(await page.context().cookies()).toEqual([]);
    // The browser logs each 401 by itself; the page adds nothing.
    expect(shown.complaints.filter((each) => !each.includes('401 (Unauthorized)'))).toEqual([]);
    expect(gateway.logText()).not.toContain(TOKEN);
  });

  test('shows what a token may do: metrics alone not even the page, read no action, operate purges and reloads', async () => {
    const role = (id: string) => ({ id, token: `fake-token-of-${id}`, role: id });
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          listen: {
            traffic: { host: '127.0.0.1', port: 0 },
            admin: {
              ...{ host: '127.0.0.1', port: 0, tokens: ['metrics', 'read', 'operate'].map(role) },
              ...{ name: 'production', runbookBaseUrl: 'https://git.example.test/patchgate' },
            },
          },
          cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '60s' }] },
          tenants: Object.fromEntries([tenant('billing')]),
        }),
    });
    await ask(gateway, 'billing', 1, '/api/v1/flows/1');
    await ask(gateway, 'billing', 1, '/api/v1/flows/2');
    await using shown = await open(gateway.adminUrl);
    const { page } = shown;
    await enter(page, 'fake-token-of-metrics');
    await until('why not', async () => (await textOf(page, '#gate-why')).includes('has the role metrics'));
    await enter(page, 'fake-token-of-read');
    await page.locator('.account').waitFor();
    expect(await textOf(page, '#holder')).toBe('Token read may read.');
    expect(await textOf(page, '#name')).toBe(`production · ${hostname()}`);
    expect(await page.title()).toBe(`patchgate · production · ${hostname()}`);
    // Numbers are beside the text, which leads to its runbook.
    for (let i = 0; i < 12; i++) await ask(gateway, 'unknown');
    await until('the alert is there', async () => (await textOf(page, '#alerts')).includes('Requests of no tenant'));
    expect(await textOf(page, '#alerts li')).toMatch(
      /unknown keys or paths\. The log has addresses and codes\. \d+ in \d+ s\. Runbook$/,
    );
    expect(await page.locator('#alerts a').getAttribute('href')).toBe(
      'https://git.example.test/patchgate/docs/operations.md#patchgateaddressblocked',
    );
    // A phone that is turned has its chart in the new width at once: no frame comes meanwhile.
    await page.route('**/events', (route) => route.abort());
    for (const width of [844, 390]) {
      await page.setViewportSize({ width, height: 500 });
      await until('the chart is drawn in its width', () =>
        page.evaluate(
          "(() => { const c = document.querySelector('svg.chart'); return Math.abs(c.viewBox.baseVal.width - c.clientWidth) < 1; })()",
        ),
      );
    }
    await page.unroute('**/events');
    await page.setViewportSize({ width: 1280, height: 900 });
    const [popup] = await Promise.all([page.waitForEvent('popup'), page.locator('a.raw').first().click()]);
    await until(
      'the status is shown as text',
      async () => (await popup.locator('body').textContent())?.includes('"replica"') === true,
    );
    await popup.close();
    expect([await page.locator('#reload').isDisabled(), await page.locator('#controls-note').isVisible()]).toEqual([
      true,
      true,
    ]);
    if (process.env['PICTURES']) await page.screenshot({ path: `${process.env['PICTURES']}/read.png`, fullPage: true });
    await page.evaluate('sessionStorage.clear()');
    await page.reload();
    await page.locator('#gate').waitFor();
    await enter(page, 'fake-token-of-operate');
    await page.locator('.account').waitFor();
    expect(await textOf(page, '#holder')).toBe('Token operate may read, purge, reload.');
    await page.locator('#purge-path').fill('/api/v1/flows/1');
    await page.locator('#purge button').click();
    await until('it says how many', async () =>
      (await textOf(page, '#action-result')).startsWith('1 response is gone from the memory of this replica (main).'),
    );
    await page.locator('#purge-path').fill('flows');
    await page.locator('#purge button').click();
    await until('it says what is wrong', async () =>
      (await textOf(page, '#action-result')).includes('must begin with /'),
    );
    if (process.env['PICTURES']) {
      await page.screenshot({ path: `${process.env['PICTURES']}/operate.png`, fullPage: true });
      await page.setViewportSize({ width: 390, height: 844 });
      await page.emulateMedia({ colorScheme: 'dark' });
      await page.screenshot({ path: `${process.env['PICTURES']}/operate-dark.png`, fullPage: true });
    }
    const purges = gateway.logs().filter(({ audit, action }) => audit && action === 'purge');
    expect(purges).toMatchObject([
      { actor: 'operate', target: '/api/v1/flows/1 of all accounts', outcome: 'ok', entries: 1 },
      { actor: 'operate', outcome: 'refused', code: 'bad_request' },
    ]);
    expect(shown.complaints.filter((each) => !/40[013] \(/.test(each))).toEqual([]);
  });

  test('asks again when another token is in force', async () => {
    await using gateway = await run({ config: guarded });
    await using shown = await open(gateway.adminUrl);
    await enter(shown.page, TOKEN);
    await shown.page.locator('.account').waitFor();
    await gateway.reload((upstream) => ({
      ...guarded(upstream),
      listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0, token: `${TOKEN}-new` } },
    }));
    await shown.page.locator('#gate').waitFor();
    expect(await shown.page.locator('#board').isVisible()).toBe(false);
  });
});

test('a gateway that is gone: the page says so, and how old is what it shows; it comes back by itself', async () => {
  const [traffic, admin] = [await freePort(), await freePort()];
  const config = configuration('http://127.0.0.1:9', {
    listen: { traffic: { host: '127.0.0.1', port: traffic }, admin: { host: '127.0.0.1', port: admin } },
    tenants: TENANTS,
  });
  await using files = await folder({ 'gateway.yaml': JSON.stringify(config) });
  const start = async () => {
    const started = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    await started.waitFor(/"listening"/);
    return started;
  };
  const first = await start();
  await using shown = await open(`http://127.0.0.1:${admin}`);
  const { page } = shown;
  await page.locator('.account').waitFor();
  first.child.kill('SIGKILL');
  await first.exited;
  await page.locator('#connection.lost').waitFor();
  expect(await textOf(page, '#connection')).toContain('Connection lost');
  await until('the page shows the age of the data', async () =>
    /^These numbers are \d+ s old/.test(await textOf(page, '#age')),
  );
  expect(await page.locator('.account').isVisible()).toBe(true);
  await using _second = await start();
  await page.locator('#connection.live').waitFor();
  expect(await textOf(page, '#age')).toBe('');
  expect(shown.complaints.filter((each) => !each.includes('ERR_'))).toEqual([]);
});
