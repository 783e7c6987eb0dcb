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
  'flow-version-deployments': 20,
  'connection-pools': 3,
  'tracked-data': 30,
  'ai/conversations': 3,
  'model-notes': 4,
  variables: 0,
  rows: 50,
};

/** It belongs to Patchworks: a change gets 403, after the throttle. */
export const PROTECTED_SCRIPT = 18;

const WORDS = ['orders', 'stock', 'invoices', 'customers', 'refunds', 'prices', 'shipments', 'returns'];

/** The field of an item that refers to another collection. */
export const PARENTS: Readonly<Record<string, { readonly field: string; readonly of: string }>> = {
  'flow-versions': { field: 'flow_id', of: 'flows' },
  'flow-runs': { field: 'flow_id', of: 'flows' },
  'flow-run-logs': { field: 'flow_run_id', of: 'flow-runs' },
  'payload-metadata': { field: 'flow_run_id', of: 'flow-runs' },
  'scheduled-flows': { field: 'flow_id', of: 'flows' },
  'script-versions': { field: 'script_id', of: 'scripts' },
  'cache-step': { field: 'cache_id', of: 'caches' },
  connectors: { field: 'system_id', of: 'systems' },
  variables: { field: 'flow_version_id', of: 'flow-versions' },
  rows: { field: 'cross_reference_lookup_id', of: 'cross-reference-lookups' },
};

/** In every secret and in all data of customers, so that a test finds them where they must not be. */
export const FAKE_SECRET = 'fake-secret-of-patchworks';
/** Downloads repeat it: they are data of customers too. */
export const FAKE_PAYLOAD = 'patchworks payload ';

export const secretOf = (of: string, id: number): string => `${FAKE_SECRET} ${of} ${id}`;

/** Fields of items that are secrets, or data of customers or users. */
const SECRETS: Readonly<Record<string, string>> = {
  connectors: 'password',
  systems: 'api_key',
  'connection-pools': 'password',
  'flow-version-deployments/virtual-environments': 'variables',
  'flow-run-logs': 'message',
  'payload-metadata': 'summary',
  'tracked-data': 'value',
  caches: 'content',
  'cache-step': 'value',
  rows: 'value',
  'agents/conversations': 'title',
  'ai/conversations': 'title',
  'mcp-servers': 'token',
  'model-notes': 'text',
  notifications: 'text',
  users: 'email',
  'api-keys': 'key',
};

/** Relations that are shown nowhere else. All of them are secret: signed URLs, a key, settings, data. */
const RELATIONS = ['variables', 'certificate', 'webhooks', 'callbacks', 'steps', 'messages', 'payloads'];

export function secretRelation(name: string, { id }: Item): readonly Item[] | null {
  return RELATIONS.includes(name) ? [{ id, value: secretOf(name, id) }] : null;
}

/** Fields that refer to others, by the number of these: the documentation filters by them. */
const REFERENCES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'flow-runs': { user_id: 4, flow_version_id: 60, virtual_environment_id: 3 },
  'scheduled-flows': { flow_version_id: 60 },
  'payload-metadata': { flow_step_id: 40, flow_log_id: 300 },
  'flow-version-deployments': { flow_version_id: 60, package_id: 6, virtual_environment_id: 3 },
  caches: { flow_id: 37 },
};

const TRIGGERS = ['API', 'Manual', 'Router', 'Webhook', 'Schedule', 'Shape', 'Retry', 'Event', 'Callback'];

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
  const secret = SECRETS[collection];
  if (secret !== undefined) item[secret] = secretOf(collection, id);
  for (const [field, count] of Object.entries(REFERENCES[collection] ?? {})) item[field] = 1 + (id % count);
  if (collection === 'flow-runs') item['trigger'] = TRIGGERS[id % TRIGGERS.length];
  if (collection === 'scripts') item['is_protected'] = id === PROTECTED_SCRIPT;
  return item;
}
