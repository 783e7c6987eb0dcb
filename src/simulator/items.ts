export type Item = Record<string, unknown> & { id: number };

/** How many items each collection starts with. */
export const SIZES: Readonly<Record<string, number>> = {
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

/** It belongs to Patchworks: a change gets 403, after the throttle. */
export const PROTECTED_SCRIPT = 18;

const WORDS = ['orders', 'stock', 'invoices', 'customers', 'refunds', 'prices', 'shipments', 'returns'];

/** The field of an item that refers to another collection. */
const PARENTS: Readonly<Record<string, { readonly field: string; readonly of: string }>> = {
  'flow-versions': { field: 'flow_id', of: 'flows' },
  'flow-runs': { field: 'flow_id', of: 'flows' },
  'flow-run-logs': { field: 'flow_run_id', of: 'flow-runs' },
  'payload-metadata': { field: 'flow_run_id', of: 'flow-runs' },
  'scheduled-flows': { field: 'flow_id', of: 'flows' },
  'script-versions': { field: 'script_id', of: 'scripts' },
  'cache-step': { field: 'cache_id', of: 'caches' },
  connectors: { field: 'system_id', of: 'systems' },
};

/** Draws the same number of random values for each item of a collection, so that the seed decides all data. */
export function makeItem(collection: string, id: number, random: () => number): Item {
  const upTo = (count: number) => 1 + Math.floor(random() * count);
  const item: Item = {
    id,
    name: `${WORDS[upTo(WORDS.length) - 1]} ${id}`,
    // No run is in progress: only runs that were started through the API are.
    status: 1 + upTo(4),
    created_at: new Date(Date.UTC(2026, 0, 1) + upTo(300) * 86_400_000).toISOString(),
  };
  const parent = PARENTS[collection];
  if (parent !== undefined) item[parent.field] = upTo(SIZES[parent.of] ?? 1);
  if (collection === 'flows') {
    item['is_enabled'] = random() > 0.2;
    // Every tenth flow has no deployed version and cannot be started.
    item['deployed_version'] = id % 10 === 0 ? null : upTo(4);
    // A URL of the upstream inside the data, which a gateway must not change.
    item['callback_url'] = `https://core.wearepatchworks.com/api/v1/flows/${id}`;
  }
  if (collection === 'payload-metadata') item['bytes'] = upTo(100_000);
  if (collection === 'patchworks/marketplace-apps') item['description'] = `${item['name']} `.repeat(40);
  if (collection === 'scripts') item['is_protected'] = id === PROTECTED_SCRIPT;
  return item;
}
