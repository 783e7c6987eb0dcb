import type { Clock } from '../clock.ts';
import { matches, matchesPath, type Pattern, parsePattern } from '../routing/pattern.ts';
import type { Credentials } from './credentials.ts';
import type { Dataset } from './dataset.ts';
import type { Switches } from './options.ts';
import { laravelJson, list, shaped } from './query.ts';

export interface Call {
  readonly path: string;
  readonly segments: readonly string[];
  readonly query: URLSearchParams;
  readonly body: Buffer;
  /** `http://core…`: what links begin with. */
  readonly base: string;
}

export type Result =
  | { readonly kind: 'json'; readonly status: number; readonly json: string }
  | { readonly kind: 'download'; readonly bytes: number; readonly type: string }
  | { readonly kind: 'redirect'; readonly location: string };

export interface SimulatedRoute {
  readonly pattern: Pattern;
  /** Without authentication and throttle, as for logins. */
  readonly open: boolean;
  readonly handle: (call: Call) => Result;
}

export interface World {
  readonly data: Dataset;
  readonly credentials: Credentials;
  readonly switches: Switches;
  readonly clock: Clock;
}

const json = (status: number, value: unknown): Result => ({ kind: 'json', status, json: laravelJson(value) });
const missing = (): Result => json(404, { message: 'No query results for this model.' });
const invalid = (errors: Readonly<Record<string, string[]>>): Result =>
  json(422, { message: Object.values(errors)[0]?.[0] ?? 'The given data was invalid.', errors });

const READ_ONLY = [
  'flow-run-logs',
  'caches',
  'cache-step',
  'systems',
  'connectors',
  'cross-reference-lookups',
  'patchworks/marketplace-apps',
  'flow-version-deployments/packages',
  'flow-version-deployments/virtual-environments',
  'notifications',
  'users',
  'api-keys',
  'flows',
  'flow-runs',
  'payload-metadata',
  'script-versions',
];
const WRITABLE: Readonly<Record<string, readonly string[]>> = {
  'data-pool': ['POST', 'PATCH', 'DELETE'],
  scripts: ['POST', 'PATCH'],
  'patchworks/system-templates': ['POST'],
  'mcp-servers': ['POST'],
  'agents/conversations': ['POST'],
  'scheduled-flows': ['DELETE'],
};

export function routesOf(world: World): SimulatedRoute[] {
  const routes: SimulatedRoute[] = [];
  const add = (match: string, handle: (call: Call) => Result, open = false): void => {
    const parsed = parsePattern(match);
    if (!parsed.ok) throw new TypeError(parsed.reason);
    routes.push({ pattern: parsed.pattern, open, handle });
  };
  addIdentity(world, add);
  addStarts(world, add);
  addNested(world, add);
  for (const name of READ_ONLY) addCollection(world, add, name, []);
  for (const [name, methods] of Object.entries(WRITABLE)) addCollection(world, add, name, methods);
  return routes;
}

export function findSimulated(
  routes: readonly SimulatedRoute[],
  method: string,
  segments: readonly string[],
): { kind: 'found'; route: SimulatedRoute } | { kind: 'method'; allow: string[] } | { kind: 'unknown' } {
  const allow: string[] = [];
  for (const route of routes) {
    if (!matchesPath(route.pattern.segments, segments)) continue;
    if (matches(route.pattern, method, segments)) return { kind: 'found', route };
    allow.push(route.pattern.method ?? '*');
  }
  if (allow.length === 0) return { kind: 'unknown' };
  if (allow.includes('GET')) allow.push('HEAD');
  return { kind: 'method', allow };
}

type Add = (match: string, handle: (call: Call) => Result, open?: boolean) => void;

function addCollection({ data, switches }: World, add: Add, name: string, methods: readonly string[]): void {
  const path = `/api/v1/${name}`;
  const rendered = new Map<string, { version: number; result: Result }>();
  add(`GET ${path}`, (call) => {
    const key = `${call.base}?${call.query}&${switches.shape}${switches.largePages}`;
    const known = rendered.get(key);
    if (known?.version === data.version) return known.result;
    const listed = list(data.all(name), call.query, call.base, path, switches);
    const result: Result = listed.ok ? { kind: 'json', status: 200, json: listed.json } : invalid(listed.errors);
    if (rendered.size >= 100) rendered.clear();
    rendered.set(key, { version: data.version, result });
    return result;
  });
  add(`GET ${path}/*`, ({ segments }) => {
    const item = data.get(name, segments.at(-1) ?? '');
    return item === undefined ? missing() : json(200, { data: shaped(item, path, switches) });
  });
  if (methods.includes('POST')) {
    add(`POST ${path}`, ({ body }) => {
      const fields = objectOf(body);
      if (fields === null || typeof fields['name'] !== 'string')
        return invalid({ name: ['The name field is required.'] });
      return json(201, { data: shaped(data.create(name, fields), path, switches) });
    });
  }
  if (methods.includes('PATCH')) {
    add(`PATCH ${path}/*`, ({ segments, body }) => {
      const item = data.update(name, segments.at(-1) ?? '', objectOf(body) ?? {});
      return item === undefined ? missing() : json(200, { data: shaped(item, path, switches) });
    });
  }
  if (methods.includes('DELETE')) {
    add(`DELETE ${path}/*`, ({ segments }) =>
      data.remove(name, segments.at(-1) ?? '') ? json(200, { message: 'Deleted.' }) : missing(),
    );
  }
}

/** Routes below an item. */
function addNested({ data }: World, add: Add): void {
  add('POST /api/v1/flows/import', ({ body }) => json(201, { data: data.create('flows', objectOf(body) ?? {}) }));
  add('GET /api/v1/flow-versions/*', ({ segments }) => {
    const item = data.get('flow-versions', segments[3] ?? '');
    return item === undefined ? missing() : json(200, { data: item });
  });
  add('GET /api/v1/flow-versions/*/steps', ({ segments }) => {
    if (data.get('flow-versions', segments[3] ?? '') === undefined) return missing();
    const steps = Array.from({ length: 40 }, (_, index) => ({ id: index + 1, kind: 'map', settings: 'x'.repeat(200) }));
    return json(200, { data: steps });
  });
  add('GET /api/v1/flow-runs/*/flow-run-logs', ({ segments }) =>
    json(200, { data: data.all('flow-run-logs').filter((log) => String(log['flow_run_id']) === segments[3]) }),
  );
  add('GET /api/v1/data-pool/*/deduped-data', ({ segments }) =>
    data.get('data-pool', segments[3] ?? '') === undefined
      ? missing()
      : json(200, { data: Array.from({ length: 500 }, (_, id) => ({ id })) }),
  );
  add('POST /api/v1/scripts/*/script-versions', ({ segments, body }) =>
    json(201, { data: data.create('script-versions', { ...objectOf(body), script_id: Number(segments[3]) }) }),
  );
  add('POST /api/v1/agents/conversations/*/reply', ({ segments }) =>
    json(200, { data: { id: Number(segments[4]), reply: 'Noted.' } }),
  );
  add('GET /api/v1/payload-metadata/*/download', ({ segments, query }) => {
    const item = data.get('payload-metadata', segments[3] ?? '');
    if (item === undefined) return missing();
    const location = query.get('redirect');
    if (location !== null) return { kind: 'redirect', location };
    const bytes = Number(query.get('bytes') ?? item['bytes']);
    return {
      kind: 'download',
      bytes: Number.isSafeInteger(bytes) && bytes >= 0 ? bytes : 0,
      type: query.get('type') ?? 'application/octet-stream',
    };
  });
}

/** Starting flows, and the runs that come of it. */
function addStarts({ data, switches, clock }: World, add: Add): void {
  const finish = (id: string): void => {
    // One run in ten fails, one in ten is a partial success: by its number, so that it is the same every time.
    const status = Number(id) % 10 === 3 ? 3 : Number(id) % 10 === 5 ? 5 : 2;
    data.update('flow-runs', id, { status, finished_at: new Date(clock.now()).toISOString() });
  };
  const start = ({ segments }: Call): Result => {
    const flow = data.get('flows', segments[3] ?? '');
    if (flow === undefined) return missing();
    if (flow['deployed_version'] === null) return invalid({ flow: ['The flow has no deployed version.'] });
    const run = data.create('flow-runs', {
      flow_id: flow.id,
      status: 1,
      created_at: new Date(clock.now()).toISOString(),
    });
    clock.after(switches.runMs, () => finish(String(run.id)));
    return json(200, { data: { id: run.id, flow_id: flow.id, status: 1 } });
  };
  for (const path of ['start', 'start/raw', 'manual', 'start/*', 'start/raw/*', 'manual/*'])
    add(`POST /api/v1/flows/*/${path}`, start);
  add('POST /api/v1/flow-runs/*/retry', ({ segments }) => {
    const run = data.get('flow-runs', segments[3] ?? '');
    if (run === undefined) return missing();
    const again = data.create('flow-runs', { flow_id: run['flow_id'], status: 1, retry_of: run.id });
    clock.after(switches.runMs, () => finish(String(again.id)));
    return json(200, { data: { id: again.id, status: 1 } });
  });
}

/** Login in both forms, and what a shared credential must not be used for. */
function addIdentity({ credentials }: World, add: Add): void {
  const login = (field: string) => (call: Call) => {
    const fields = objectOf(call.body) ?? {};
    const issued = credentials.login(fields[field], fields['password']);
    if (issued === null) return json(401, { message: 'These credentials do not match our records.' });
    return json(200, {
      message: 'You have successfully logged in.',
      token: issued.token,
      expires_in: issued.expiresIn,
    });
  };
  add('POST /fabric/api/login', login('username'), true);
  add('POST /api/v1/login', login('email'), true);
  add('GET /health', () => json(200, { status: 'ok' }), true);
  add('GET /api/v2/my/user', () => json(200, { data: { id: 1, name: 'Integrations' } }));
  add('PUT /api/v2/companies/*/manage', ({ segments }) => json(200, { data: { company_id: Number(segments[3]) } }));
  add('PUT /api/v1/companies/*/manage', ({ segments }) => json(200, { data: { company_id: Number(segments[3]) } }));
}

function objectOf(body: Buffer): Record<string, unknown> | null {
  if (body.length === 0) return {};
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)
      ? (parsed as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
