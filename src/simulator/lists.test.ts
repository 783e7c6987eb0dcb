import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Simulator } from './control.ts';
import { FAKE_PRIMARY_KEY } from './options.ts';
import { paginate } from './paginator.ts';
import { createSimulator } from './simulator.ts';

interface Page {
  data: Record<string, unknown>[];
  links: Record<'first' | 'last' | 'prev' | 'next', string | null>;
  meta: Record<string, unknown> & { links: { label: string; active: boolean }[] };
}

let simulator: Simulator;
beforeAll(async () => {
  simulator = await createSimulator({ switches: { limit: 1_000_000 } });
});
afterAll(() => simulator.close());

async function textOf(path: string): Promise<string> {
  const headers = { Authorization: FAKE_PRIMARY_KEY, Accept: 'application/json' };
  return (await fetch(`${simulator.url}/api/v1${path}`, { headers, signal: AbortSignal.timeout(5_000) })).text();
}
const pageOf = async (path: string): Promise<Page> => JSON.parse(await textOf(path));
const idsOf = (page: Page) => page.data.map((item) => item['id']);

describe('a list', () => {
  test('has the envelope of the documentation, with links on the host that was asked', async () => {
    const { links, meta } = await pageOf('/flows?page=2&per_page=10&filter%5Bis_enabled%5D=true,false');
    const url = (page: number) =>
      `${simulator.url}/api/v1/flows?page=${page}&per_page=10&filter%5Bis_enabled%5D=true%2Cfalse`;
    expect(links).toEqual({ first: url(1), last: url(4), prev: url(1), next: url(3) });
    expect(meta).toMatchObject({ current_page: 2, from: 11, last_page: 4, per_page: 10, to: 20, total: 37 });
    expect(meta['path']).toBe(`${simulator.url}/api/v1/flows`);
  });

  test('is compact JSON with escaped slashes', async () => {
    const text = await textOf('/flows?per_page=1');
    expect(text).toContain(`"first":"http:\\/\\/127.0.0.1:${simulator.port}\\/api\\/v1\\/flows?`);
    expect(text).not.toMatch(/[^\\]\//);
  });

  test('followed from link to link has every item once', async () => {
    const ids: unknown[] = [];
    let path: string | null = '/flow-runs?per_page=50&sort=-id';
    while (path !== null) {
      const page: Page = await pageOf(path);
      ids.push(...idsOf(page));
      path = page.links.next?.slice(`${simulator.url}/api/v1`.length) ?? null;
    }
    expect(ids).toEqual(Array.from({ length: 120 }, (_, index) => 120 - index));
  });

  test('takes a trailing slash, and filters percent-encoded or not', async () => {
    const plain = await pageOf('/flow-runs?filter[status]=2,3&per_page=100');
    expect(idsOf(await pageOf('/flow-runs/?filter%5Bstatus%5D=2%2C3&per_page=100'))).toEqual(idsOf(plain));
    expect(new Set(plain.data.map((item) => item['status']))).toEqual(new Set([2, 3]));
  });

  test('sorts by several fields, downwards with a minus', async () => {
    const { data } = await pageOf('/flow-runs?sort=-status,id&per_page=100');
    const keys = data.map((item) => [Number(item['status']), Number(item['id'])] as const);
    expect(keys).toEqual(keys.toSorted(([a, i], [b, j]) => b - a || i - j));
  });

  test('shows the fields and relations asked for', async () => {
    const { data } = await pageOf('/flow-runs?fields[flow-runs]=status&include=flow&per_page=1');
    expect(Object.keys(data[0]!)).toEqual(['id', 'status', 'flow']);
    const whole = await pageOf('/flow-runs?include=flow&per_page=1');
    expect(whole.data[0]!['flow']).toMatchObject({ id: whole.data[0]!['flow_id'] });
  });

  test('clamps a page above 100, or refuses it: a switch', async () => {
    expect((await pageOf('/flow-runs?per_page=500')).meta['per_page']).toBe(100);
    simulator.set({ largePages: 'refuse' });
    expect(JSON.parse(await textOf('/flow-runs?per_page=500'))).toHaveProperty('errors.per_page');
    simulator.set({ largePages: 'clamp' });
  });

  test('has as many items as wanted above 100 where that is accepted', async () => {
    simulator.set({ largePages: 'accept' });
    expect((await pageOf('/flow-runs?per_page=110')).data).toHaveLength(110);
    simulator.set({ largePages: 'clamp' });
  });

  test('filters by the fields of the documentation', async () => {
    const { data: all } = await pageOf('/flow-runs?per_page=100');
    const at = String(all[40]?.['created_at']);
    for (const [filter, wanted] of [
      ['trigger', (run) => run['trigger'] === 'Webhook'],
      ['started_after', (run) => String(run['created_at']) >= at],
      ['started_before', (run) => String(run['created_at']) <= at],
      ['search', (run) => String(run['name']).includes('orders')],
    ] as [string, (run: Record<string, unknown>) => boolean][]) {
      const value = { trigger: 'Webhook', search: 'orders' }[filter] ?? Date.parse(at);
      const { data } = await pageOf(`/flow-runs?per_page=100&filter[${filter}]=${value}`);
      expect(data.length, filter).toBeGreaterThan(0);
      expect(data.every(wanted), filter).toBe(true);
    }
  });

  test('includes relations however they are asked for, below others and as a count too', async () => {
    const spellings = [
      'include=labels,latestVersion.variables',
      'includes=latestVersion.variables',
      'include%5B%5D=labels&include[]=latestVersion.variables',
      'include=latestVersion.variables&include=labels',
    ];
    for (const query of spellings) {
      const { data } = await pageOf(`/flows?per_page=1&${query}`);
      expect(data[0], query).toMatchObject({ latestVersion: { id: 1, variables: [{ id: 1 }] } });
    }
    const { data } = await pageOf('/flows?per_page=1&include=variables_count,webhooksExists,labels,callbacks');
    expect(data[0]).toMatchObject({ variables_count: 2, webhooksExists: true, labels: [], callbacks: [{ id: 1 }] });
  });

  test('has items flat, or with attributes: a switch', async () => {
    simulator.set({ shape: 'attributes' });
    const { data } = await pageOf('/patchworks/marketplace-apps?per_page=1');
    expect(data[0]).toEqual({
      id: 1,
      type: 'marketplace-apps',
      attributes: expect.objectContaining({ status: expect.any(Number) }),
    });
    simulator.set({ shape: 'flat' });
    expect((await pageOf('/patchworks/marketplace-apps?per_page=1')).data[0]).toHaveProperty('name');
  });

  test('shows a write at once, though lists are kept', async () => {
    const before = (await pageOf('/data-pool')).meta['total'] as number;
    const headers = { Authorization: FAKE_PRIMARY_KEY, Accept: 'application/json' };
    const url = `${simulator.url}/api/v1/data-pool`;
    const created = await fetch(url, { method: 'POST', headers, body: '{"name":"new"}' });
    const { data } = (await created.json()) as { data: { id: number } };
    expect((await pageOf('/data-pool')).meta['total']).toBe(before + 1);
    const renamed = await fetch(`${url}/${data.id}`, { method: 'PATCH', headers, body: '{"name":"other"}' });
    expect(await renamed.json()).toMatchObject({ data: { id: data.id, name: 'other' } });
    expect((await fetch(`${url}/${data.id}`, { method: 'DELETE', headers })).status).toBe(200);
    expect((await pageOf('/data-pool')).meta['total']).toBe(before);
  });

  test('leads to the public base where one is set', async () => {
    simulator.set({ publicBase: 'http://core.wearepatchworks.com' });
    expect((await pageOf('/flows')).links.first).toBe('http://core.wearepatchworks.com/api/v1/flows?page=1');
    simulator.set({ publicBase: null });
  });
});

test.each([
  ['/flows', 200],
  ['/flows/1', 200],
  ['/flow-versions/1/steps', 200],
  ['/flow-runs', 200],
  ['/flow-runs/1', 200],
  ['/flow-runs/1/flow-run-logs', 200],
  ['/flow-run-logs', 200],
  ['/payload-metadata', 200],
  ['/payload-metadata/1/download', 200],
  ['/scheduled-flows', 200],
  ['/data-pool/', 200],
  ['/data-pool/1', 200],
  ['/data-pool/1/deduped-data', 200],
  ['/scripts', 200],
  ['/scripts/1', 200],
  ['/script-versions/1', 200],
  ['/caches', 200],
  ['/cache-step', 200],
  ['/systems', 200],
  ['/connectors', 200],
  ['/cross-reference-lookups', 200],
  ['/patchworks/system-templates', 200],
  ['/patchworks/marketplace-apps', 200],
  ['/patchworks/marketplace-apps/1', 200],
  ['/flow-version-deployments/packages', 200],
  ['/flow-version-deployments/virtual-environments', 200],
  ['/notifications', 200],
  ['/mcp-servers', 200],
  ['/agents/conversations', 200],
  ['/agents/conversations/1', 200],
  ['/flows/import', 404],
  ['/flow-runs/999/flow-run-logs', 404],
  ['/flow-runs/1/retry', 405],
])('GET %s of the routes table is %i', async (path, status) => {
  const headers = { Authorization: FAKE_PRIMARY_KEY, Accept: 'application/json' };
  const response = await fetch(`${simulator.url}/api/v1${path}`, { headers, signal: AbortSignal.timeout(5_000) });
  expect([response.status, (await response.text()).length > 0]).toEqual([status, true]);
});

test('the same seed gives the same data, another seed other data', async () => {
  const [same, other] = await Promise.all([createSimulator({ seed: 1 }), createSimulator({ seed: 2 })]);
  const of = (each: Simulator) => JSON.stringify(each.data.all('flows'));
  expect([of(same) === of(simulator), of(other) === of(simulator)]).toEqual([true, false]);
  await Promise.all([same.close(), other.close()]);
});

// As Laravel's UrlWindow draws them, with three pages on each side.
test.each([
  [1, 13, '1 2 3 4 5 6 7 8 9 10 11 12 13'],
  [1, 30, '1 2 3 4 5 6 7 8 9 10 ... 29 30'],
  [15, 30, '1 2 ... 12 13 14 15 16 17 18 ... 29 30'],
  [29, 30, '1 2 ... 21 22 23 24 25 26 27 28 29 30'],
])('page %i of %i links to %s', (page, last, labels) => {
  const { meta } = paginate({ page, perPage: 10, total: last * 10, count: 10 }, 'http://x/y', new URLSearchParams());
  expect(
    meta.links
      .slice(1, -1)
      .map((link) => link.label)
      .join(' '),
  ).toBe(labels);
});
