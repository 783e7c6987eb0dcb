import { seededRandom } from './options.ts';

export type Item = Record<string, unknown> & { id: number };

/** How many items each collection starts with. */
const SIZES: Readonly<Record<string, number>> = {
  flows: 37,
  'flow-versions': 60,
  'flow-runs': 120,
  'flow-run-logs': 300,
  'payload-metadata': 80,
  'scheduled-flows': 12,
  'data-pool': 25,
  scripts: 18,
  'script-versions': 40,
  caches: 9,
  'cache-step': 9,
  systems: 14,
  connectors: 22,
  'cross-reference-lookups': 11,
  'patchworks/system-templates': 45,
  'patchworks/marketplace-apps': 70,
  'flow-version-deployments/packages': 6,
  'flow-version-deployments/virtual-environments': 3,
  notifications: 8,
  'mcp-servers': 2,
  'agents/conversations': 5,
  users: 4,
  'api-keys': 2,
};

const WORDS = ['orders', 'stock', 'invoices', 'customers', 'refunds', 'prices', 'shipments', 'returns'];

/** The data behind the routes: made from a seed, changed by writes. */
export class Dataset {
  readonly #collections = new Map<string, Map<number, Item>>();
  #nextId = 100_000;
  /** Grows with every write, so that a rendered list can be kept until then. */
  version = 0;

  constructor(seed: number) {
    const random = seededRandom(seed);
    for (const [name, size] of Object.entries(SIZES)) {
      const items = new Map<number, Item>();
      for (let id = 1; id <= size; id++) items.set(id, makeItem(name, id, random));
      this.#collections.set(name, items);
    }
  }

  has(collection: string): boolean {
    return this.#collections.has(collection);
  }

  all(collection: string): Item[] {
    return [...(this.#collections.get(collection)?.values() ?? [])];
  }

  get(collection: string, id: string): Item | undefined {
    return this.#collections.get(collection)?.get(Number(id));
  }

  create(collection: string, fields: Record<string, unknown>): Item {
    this.#nextId += 1;
    const item = { ...fields, id: this.#nextId };
    this.#collections.get(collection)?.set(item.id, item);
    this.version += 1;
    return item;
  }

  update(collection: string, id: string, fields: Record<string, unknown>): Item | undefined {
    const item = this.get(collection, id);
    if (item === undefined) return undefined;
    const updated = { ...item, ...fields, id: item.id };
    this.#collections.get(collection)?.set(item.id, updated);
    this.version += 1;
    return updated;
  }

  remove(collection: string, id: string): boolean {
    const removed = this.#collections.get(collection)?.delete(Number(id)) ?? false;
    if (removed) this.version += 1;
    return removed;
  }
}

function makeItem(collection: string, id: number, random: () => number): Item {
  const word = WORDS[Math.floor(random() * WORDS.length)] ?? 'orders';
  const item: Item = {
    id,
    name: `${word} ${id}`,
    status: 1 + Math.floor(random() * 5),
    created_at: new Date(Date.UTC(2026, 0, 1) + Math.floor(random() * 300) * 86_400_000).toISOString(),
  };
  if (collection === 'flows') {
    item['is_enabled'] = random() > 0.2;
    // Every tenth flow has no version deployed: starting it is refused.
    item['deployed_version'] = id % 10 === 0 ? null : 1 + Math.floor(random() * 4);
    // A URL of the upstream inside the data, which a gateway has no business changing.
    item['callback_url'] = `https://core.wearepatchworks.com/api/v1/flows/${id}`;
  }
  if (collection === 'flow-versions') item['flow_id'] = 1 + Math.floor(random() * 37);
  if (collection === 'flow-run-logs' || collection === 'payload-metadata')
    item['flow_run_id'] = 1 + Math.floor(random() * 120);
  if (collection === 'flow-runs') item['flow_id'] = 1 + Math.floor(random() * 37);
  if (collection === 'payload-metadata') item['bytes'] = Math.floor(random() * 100_000);
  return item;
}
