/**
 * Every operation of the Core and start APIs that Patchworks documents or a real client uses, and what the gateway does with it by
 * default. Ids are those of the simulator's data. Webhooks and callbacks are not among them.
 *
 * The documentation has no paths for the rows of a lookup, the creation of a connector, and `manual/raw`: these are inferred.
 */
export interface Operation {
  /** Method and path below `/api/v1`. */
  readonly request: string;
  /** As it is sent, byte for byte. */
  readonly query?: string;
  readonly body?: string;
  readonly status: number;
  /** `list`: with links and meta. `data`: neither. `message`: a text. `bytes`: a file. */
  readonly shape: 'list' | 'data' | 'message' | 'bytes';
  readonly upstream: 'core' | 'start';
  /** Seconds for which a response is stored; `never`, or not with this query. Null for a write. */
  readonly stored: number | 'never' | 'unless' | null;
  /** Stored reads that it invalidates, by path. */
  readonly invalidates: readonly string[];
}

const read = (
  path: string,
  stored: Operation['stored'],
  shape: Operation['shape'] = 'list',
  query?: string,
): Operation => ({
  request: `GET ${path}`,
  ...(query !== undefined && { query }),
  ...{ status: 200, shape, upstream: 'core', stored, invalidates: [] },
});

const write = (
  request: string,
  body: string | undefined,
  more: Partial<Operation> & Pick<Operation, 'status'>,
): Operation => ({
  request,
  ...(body !== undefined && { body }),
  ...{ shape: 'data', upstream: 'core', stored: null, invalidates: [] },
  ...more,
});

// Groups of stored reads that change together.
const FLOWS = ['/flows', '/flows/1', '/flow-version-deployments', '/flow-version-deployments/packages'];
const SCRIPTS = ['/scripts', '/scripts/1', '/script-versions/1'];
const LOOKUPS = ['/cross-reference-lookups', '/cross-reference-lookups/1'];
/** All below `/patchworks` is one collection: marketplace apps are fetched again without need. */
const TEMPLATES = ['system-templates', 'marketplace-apps'].flatMap((name) => [
  `/patchworks/${name}`,
  `/patchworks/${name}/1`,
]);

/** A start changes no definition, but it is a write below `/flows`: one fetch too many is better than a stale flow. */
const starts = ['start', 'start/raw', 'manual', 'manual/raw'].flatMap((way) => {
  const body = way.endsWith('raw') ? '[ {"any": "JSON, with  spaces and \u2603"} ]' : '{"payload":"{\\"order\\": 1}"}';
  const query = 'virtual_environment_id=2&flow_variables=%7B%22a%22%3A%22b%22%7D';
  const start = (more: Partial<Operation> = {}, path = `/flows/1/${way}`) =>
    write(`POST ${path}`, body, { status: 200, upstream: 'start', invalidates: FLOWS, ...more });
  return [
    start(),
    start({ query }),
    start({}, `/flows/1/${way}/1`),
    start({ body: '{}' }),
    start({ body: '' }),
    start({ status: 422, invalidates: [] }, `/flows/10/${way}`),
  ];
});

/** Includes of flows that bring neither secrets nor customer data. */
const HARMLESS = [
  ...['latestVersion', 'deployedVersion', 'currentVersion', 'versions', 'labels', 'deployments', 'variables_count'],
  ...['webhooks_count', 'callbacksExists', 'latestVersion%2Clabels'],
];
/** Includes that bring secrets, in the spellings that PHP and Laravel accept. */
export const SECRET_INCLUDES = [
  ...['include=webhooks', 'include=callbacks', 'include=variables', 'include=certificate', 'includes=variables'],
  ...['include=currentVersion.steps', 'include=currentVersion.variables', 'include=labels,latestVersion.variables'],
  ...[
    'include=labels%2CcurrentVersion%2Evariables',
    'include[]=webhooks',
    'include%5B%5D=labels&include%5B%5D=callbacks',
  ],
  ...['include=webhooks&include=labels', 'include[0]=labels&include[1]=variables', '%69nclude=variables'],
];

export const OPERATIONS: readonly Operation[] = [
  // Definitions.
  read('/flows', 30),
  read('/flows', 30, 'list', 'page=2&per_page=10&sort=-id,name&filter%5Bis_enabled%5D=true%2Cfalse'),
  read('/flows', 30, 'list', 'fields[flows]=id,name&filter[id]=1,2'),
  read('/flows/', 30, 'list', 'page=3'),
  read('/flows/1', 30, 'data'),
  ...HARMLESS.map((names) => read('/flows', 30, 'list', `include=${names}`)),
  ...SECRET_INCLUDES.map((query) => read('/flows', 'unless', 'list', query)),
  read('/flows/1', 'unless', 'data', 'include=currentVersion.steps,webhooks'),
  write('POST /flows/import', '{"name":"imported"}', { status: 201, invalidates: FLOWS }),
  read('/flow-versions/1/steps', 'never', 'data'),
  read('/flow-versions/1/steps', 'never', 'data', 'to_tree=1'),
  write('POST /flow-versions/1/variables', '{"key":"token","type":"string","value":"x","secret":true}', {
    status: 201,
    invalidates: FLOWS,
  }),
  write('POST /flow-versions/1/variables', '{"key":"token"}', { status: 422, shape: 'message' }),
  read('/flow-version-deployments', 60),
  read('/flow-version-deployments', 60, 'list', 'filter[package_id]=1&filter[virtual_environment_id]=2&filter[name]=x'),
  read('/flow-version-deployments/packages', 60),
  read('/flow-version-deployments/virtual-environments', 'never'),
  read('/scripts', 60),
  read('/scripts/1', 60, 'data'),
  read('/script-versions/1', 600, 'data'),
  write('POST /scripts', '{"name":"new"}', { status: 201, invalidates: SCRIPTS }),
  write('PATCH /scripts/2', '{"name":"other"}', { status: 200, invalidates: SCRIPTS }),
  write('POST /scripts/1/script-versions', '{"content":"<?php"}', { status: 201, invalidates: SCRIPTS }),
  read('/cross-reference-lookups', 60),
  read('/cross-reference-lookups/1', 60, 'data'),
  read('/cross-reference-lookups/1/rows', 'never'),
  write('POST /cross-reference-lookups/1/rows', '{"from":"a","to":"b"}', { status: 201, invalidates: LOOKUPS }),
  read('/patchworks/system-templates', 3600),
  read('/patchworks/system-templates/1', 3600, 'data'),
  write('POST /patchworks/system-templates', '{"name":"new"}', { status: 201, invalidates: TEMPLATES }),
  read('/patchworks/marketplace-apps', 3600),
  read('/patchworks/marketplace-apps/1', 3600, 'data'),

  // Secrets.
  read('/connectors', 'never'),
  read('/connectors', 'never', 'list', 'include=variables,certificate'),
  write('POST /connectors', '{"name":"new","password":"fake"}', { status: 201 }),
  read('/systems', 'never'),
  read('/connection-pools', 'never'),

  // Runs, payloads, schedules: live state and customer data.
  read('/flow-runs', 'never'),
  read('/flow-runs', 'never', 'list', 'filter[status]=3&filter[flow_id]=1&filter[user_id]=1&filter[flow_version_id]=2'),
  read('/flow-runs', 'never', 'list', 'filter[virtual_environment_id]=1&filter[trigger]=API,Webhook&per_page=250'),
  read('/flow-runs', 'never', 'list', 'filter[started_after]=1767225600000&filter[search]=x&filter[retried]=1'),
  read('/flow-runs/1', 'never', 'data'),
  read('/flow-runs/1/flow-run-logs', 'never'),
  read('/flow-runs/1/flow-run-logs', 'never', 'list', 'load_payload_ids=true&per_page=100&page=1&sort=id'),
  write('POST /flow-runs/1/retry', undefined, { status: 200 }),
  read('/flow-run-logs', 'never'),
  read('/payload-metadata', 'never'),
  read('/payload-metadata', 'never', 'list', 'filter[flow_run_id]=1&filter[flow_step_id]=2&filter[flow_log_id]=3'),
  read('/payload-metadata/1/download', 'never', 'bytes'),
  read('/scheduled-flows', 'never'),
  read('/scheduled-flows', 'never', 'list', 'filter[status]=1&filter[flow_version_id]=1'),
  write('DELETE /scheduled-flows/1', undefined, { status: 200, shape: 'message' }),
  ...starts,

  // Other customer data.
  read('/data-pool', 'never'),
  read('/data-pool/', 'never'),
  read('/data-pool/1', 'never', 'data'),
  read('/data-pool/1/deduped-data', 'never', 'data'),
  write('POST /data-pool', '{"name":"orders","description":"\u00fc"}', { status: 201 }),
  write('POST /data-pool', '{"description":1}', { status: 422, shape: 'message' }),
  write('PATCH /data-pool/1', '{"name":"other"}', { status: 200 }),
  write('DELETE /data-pool/2', undefined, { status: 200, shape: 'message' }),
  read('/tracked-data', 'never'),
  read('/caches', 'never'),
  read('/caches', 'never', 'list', 'filter[flow_id]=1&filter[scope]=flow&filter[name]=x&filter[for_flow]=1'),
  read('/cache-step', 'never'),

  // Data of a user, or of a conversation.
  read('/notifications', 'never'),
  read('/model-notes', 'never'),
  write('POST /model-notes', '{"name":"note","text":"x"}', { status: 201 }),
  read('/mcp-servers', 'never'),
  write('POST /mcp-servers', '{"name":"new"}', { status: 201 }),
  read('/agents/conversations', 'never', 'list', 'include=messages'),
  write('POST /agents/conversations', '{"name":"new"}', { status: 201 }),
  read('/agents/conversations/1', 'never', 'data', 'include=messages'),
  write('POST /agents/conversations/1/reply', '{"message":"x"}', { status: 200 }),
  read('/ai/conversations', 'never'),
];
