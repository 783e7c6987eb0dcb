import { type Item, PARENTS, PROTECTED_SCRIPT } from './items.ts';
import { list, present } from './query.ts';
import { type Errors, forbidden, invalid, json, message, missing, objectOf, type Result } from './result.ts';
import type { Call, RouteHandler, Routes } from './router.ts';

type Action = 'list' | 'get' | 'create' | 'update' | 'remove';

/** The collections below `/api/v1`, and what the API does with each. */
const COLLECTIONS: Readonly<Record<string, readonly Action[]>> = {
  flows: ['list', 'get'],
  'flow-versions': ['list', 'get'],
  'flow-versions/*/variables': ['create'],
  'flow-version-deployments': ['list', 'get'],
  'flow-version-deployments/packages': ['list', 'get'],
  'flow-version-deployments/virtual-environments': ['list', 'get'],
  'flow-runs': ['list', 'get'],
  'flow-runs/*/flow-run-logs': ['list'],
  'flow-run-logs': ['list', 'get'],
  'payload-metadata': ['list', 'get'],
  'scheduled-flows': ['list', 'get', 'remove'],
  connectors: ['list', 'get', 'create'],
  systems: ['list', 'get'],
  'connection-pools': ['list', 'get'],
  'patchworks/system-templates': ['list', 'get', 'create'],
  'patchworks/marketplace-apps': ['list', 'get'],
  'data-pool': ['list', 'get', 'create', 'update', 'remove'],
  'tracked-data': ['list', 'get'],
  scripts: ['list', 'get', 'create', 'update'],
  'scripts/*/script-versions': ['create'],
  'script-versions': ['list', 'get'],
  caches: ['list', 'get'],
  'cache-step': ['list', 'get'],
  'cross-reference-lookups': ['list', 'get'],
  'cross-reference-lookups/*/rows': ['list', 'create'],
  'agents/conversations': ['list', 'get', 'create'],
  'ai/conversations': ['list', 'get'],
  'mcp-servers': ['list', 'get', 'create'],
  notifications: ['list', 'get'],
  'model-notes': ['list', 'get', 'create'],
  users: ['list', 'get'],
  'api-keys': ['list', 'get'],
};

interface Fields {
  readonly needed: readonly string[];
  /** Characters. */
  readonly most?: Readonly<Record<string, number>>;
}

/** The fields of a new item. The documentation is silent on most: a name is needed. */
const FIELDS: Readonly<Record<string, Fields>> = {
  'data-pool': { needed: ['name'], most: { name: 100, description: 255 } },
  variables: { needed: ['key', 'type'], most: { value: 1024 } },
  'script-versions': { needed: [] },
  rows: { needed: [] },
};
const NAMED: Fields = { needed: ['name'] };

/** Where items are. Those of one script are below it. */
interface Place {
  /** In the data. */
  readonly name: string;
  /** The collection of the item they belong to. */
  readonly parent: string | null;
  /** Their field with its id. */
  readonly field: string;
}

const ACTIONS: Readonly<Record<Action, { readonly method: string; readonly of: (place: Place) => RouteHandler }>> = {
  list: { method: 'GET', of: (place) => (call) => listed(call, place) },
  get: { method: 'GET', of: ({ name }) => withItem(name, (call, item) => shown(call, name, 200, item)) },
  create: { method: 'POST', of: (place) => (call) => create(call, place) },
  update: { method: 'PATCH', of: ({ name }) => withItem(name, (call, item) => update(call, name, item)) },
  remove: {
    method: 'DELETE',
    of: ({ name }) =>
      withItem(name, ({ data }, { id }) => {
        data.remove(name, id);
        return message(200, 'Deleted.');
      }),
  },
};

export const collectionRoutes: Routes = Object.fromEntries(
  Object.entries(COLLECTIONS).flatMap(([path, actions]) =>
    actions.map((action) => {
      const { method, of } = ACTIONS[action];
      const end = action === 'list' || action === 'create' ? '' : '/*';
      return [`${method} /api/v1/${path}${end}`, of(placeOf(path))];
    }),
  ),
);

function placeOf(path: string): Place {
  const [above, below] = path.split('/*/');
  const parent = below === undefined ? null : (above ?? null);
  const name = below ?? path;
  return { name, parent, field: PARENTS[name]?.field ?? '' };
}

/** `flow-runs` → `FlowRun`. */
function modelOf(collection: string): string {
  const words = collection.slice(collection.lastIndexOf('/') + 1).split('-');
  return words
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('')
    .replace(/s$/, '');
}

/** 404 for an item that does not exist. Its id comes right after the path of its collection. */
export function withItem(collection: string, handle: (call: Call, item: Item) => Result): RouteHandler {
  const idAt = collection.split('/').length + 2;
  return (call) => {
    const id = call.segments[idAt] ?? '';
    const item = call.data.get(collection, id);
    return item === undefined ? missing(modelOf(collection), id) : handle(call, item);
  };
}

function shown(call: Call, collection: string, status: number, item: Item): Result {
  return json(status, { data: present(item, { ...call, collection, query: new URLSearchParams(call.rawQuery) }) });
}

function listed(call: Call, { name, parent, field }: Place): Result {
  const { data, switches, rawQuery, base, segments } = call;
  const query = new URLSearchParams(rawQuery);
  const asked = { data, switches, query, collection: name, url: `${base}/${segments.join('/')}` };
  if (parent !== null) {
    return withItem(parent, (_call, { id }) =>
      list(
        data.all(name).filter((item) => item[field] === id),
        asked,
      ),
    )(call);
  }
  // All that a page depends on; the version stands for the data. A page with relations contains other collections too.
  const key = `${base} ${name}?${rawQuery} ${switches.shape} ${switches.largePages} ${switches.validationErrors}`;
  const isFixed = !rawQuery.includes('include') && !data.expires(name);
  return data.rendered(isFixed ? key : null, name, () => list(data.all(name), asked));
}

function create(call: Call, { name, parent, field }: Place): Result {
  const { data, switches, body } = call;
  if (parent !== null) return withItem(parent, (_call, { id }) => made(id))(call);
  return made();

  function made(parentId?: number): Result {
    const fields = objectOf(body);
    const errors = errorsOf(fields ?? {}, name);
    if (fields === null || Object.keys(errors).length > 0) return invalid(errors, switches);
    const item = data.create(name, { ...fields, ...(parentId !== undefined && { [field]: parentId }) });
    return shown(call, name, switches.createStatus, item);
  }
}

function errorsOf(fields: Record<string, unknown>, collection: string): Errors {
  const { needed, most = {} } = FIELDS[collection] ?? NAMED;
  const absent = needed
    .filter((name) => typeof fields[name] !== 'string')
    .map((name): [string, Errors[string]] => [name, { required: `The ${name} field is required.` }]);
  const long = Object.entries(most)
    .filter(([name, max]) => String(fields[name] ?? '').length > max)
    .map(([name, max]): [string, Errors[string]] => [
      name,
      { max: `The ${name} may not be greater than ${max} characters.` },
    ]);
  return Object.fromEntries([...absent, ...long]);
}

function update(call: Call, collection: string, { id }: Item): Result {
  if (collection === 'scripts' && id === PROTECTED_SCRIPT) return forbidden();
  const updated = call.data.update(collection, id, objectOf(call.body) ?? {});
  return updated === undefined ? missing(modelOf(collection), String(id)) : shown(call, collection, 200, updated);
}
