import { type Item, PROTECTED_SCRIPT } from './items.ts';
import { type ListQuery, list, present } from './query.ts';
import { forbidden, invalid, json, message, missing, objectOf, type Result } from './result.ts';
import type { Add, Call } from './router.ts';
import type { Switches } from './switches.ts';

/** Collections, with their methods besides GET of the list and of an item. */
const COLLECTIONS: Readonly<Record<string, readonly ('POST' | 'PATCH' | 'DELETE')[]>> = {
  'data-pool': ['POST', 'PATCH', 'DELETE'],
  scripts: ['POST', 'PATCH'],
  'patchworks/system-templates': ['POST'],
  'mcp-servers': ['POST'],
  'agents/conversations': ['POST'],
  'scheduled-flows': ['DELETE'],
  'flow-run-logs': [],
  caches: [],
  'cache-step': [],
  systems: [],
  connectors: [],
  'cross-reference-lookups': [],
  'patchworks/marketplace-apps': [],
  'flow-version-deployments/packages': [],
  'flow-version-deployments/virtual-environments': [],
  notifications: [],
  users: [],
  'api-keys': [],
  flows: [],
  'flow-versions': [],
  'flow-runs': [],
  'payload-metadata': [],
  'script-versions': [],
};

const MAX_RENDERED = 500;

export function queryOf(call: Call, collection: string, switches: Switches, path = `/api/v1/${collection}`): ListQuery {
  return {
    data: call.data,
    collection,
    query: new URLSearchParams(call.rawQuery),
    url: `${call.base}${path}`,
    switches,
  };
}

export function listResult(items: readonly Item[], asked: ListQuery): Result {
  const page = list(items, asked);
  return page.ok ? { kind: 'json', status: 200, json: page.json } : invalid(page.errors);
}

/** `flow-runs` → `FlowRun`. */
export function modelOf(collection: string): string {
  const words = collection.slice(collection.lastIndexOf('/') + 1).split('-');
  return words
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('')
    .replace(/s$/, '');
}

export function addCollectionRoutes(add: Add, switches: Switches): void {
  const rendered = new Map<string, { readonly version: number; readonly result: Result }>();
  for (const [name, methods] of Object.entries(COLLECTIONS)) {
    const path = `/api/v1/${name}`;
    add(`GET ${path}`, (call) => {
      // All that a page depends on; the version stands for the data.
      const key = `${call.account} ${call.base} ${name}?${call.rawQuery} ${switches.shape} ${switches.largePages}`;
      const version = call.data.versionOf(name);
      const known = rendered.get(key);
      // A page with relations contains other collections too.
      if (known?.version === version && !call.rawQuery.includes('include')) return known.result;
      const fresh = listResult(call.data.all(name), queryOf(call, name, switches));
      const result = fresh.kind === 'json' ? { ...fresh, json: Buffer.from(fresh.json) } : fresh;
      if (rendered.size >= MAX_RENDERED) rendered.clear();
      rendered.set(key, { version, result });
      return result;
    });
    add(`GET ${path}/*`, (call) => {
      const id = call.segments.at(-1);
      const item = call.data.get(name, id ?? '');
      return item === undefined
        ? missing(modelOf(name), id)
        : json(200, { data: present(item, queryOf(call, name, switches)) });
    });
    addWrites(add, switches, name, methods);
  }
}

function addWrites(add: Add, switches: Switches, name: string, methods: readonly string[]): void {
  const path = `/api/v1/${name}`;
  if (methods.includes('POST')) {
    add(`POST ${path}`, (call) => {
      const fields = objectOf(call.body);
      if (typeof fields?.['name'] !== 'string') return invalid({ name: ['The name field is required.'] });
      return json(201, { data: present(call.data.create(name, fields), queryOf(call, name, switches)) });
    });
  }
  if (methods.includes('PATCH')) {
    add(`PATCH ${path}/*`, (call) => {
      const id = call.segments.at(-1) ?? '';
      if (call.data.get(name, id) === undefined) return missing(modelOf(name), id);
      if (name === 'scripts' && Number(id) === PROTECTED_SCRIPT) return forbidden();
      const item = call.data.update(name, id, objectOf(call.body) ?? {});
      return item === undefined
        ? missing(modelOf(name), id)
        : json(200, { data: present(item, queryOf(call, name, switches)) });
    });
  }
  if (methods.includes('DELETE')) {
    add(`DELETE ${path}/*`, ({ data, segments }) =>
      data.remove(name, segments.at(-1) ?? '') ? message(200, 'Deleted.') : missing(modelOf(name), segments.at(-1)),
    );
  }
}
