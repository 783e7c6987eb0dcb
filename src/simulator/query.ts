import type { Dataset } from './dataset.ts';
import { type Item, secretRelation } from './items.ts';
import { paginate } from './paginator.ts';
import { invalid, json, type Result } from './result.ts';
import type { Switches } from './switches.ts';

/** The query of an item: its collection, and the query string. */
interface ItemQuery {
  readonly data: Dataset;
  readonly collection: string;
  readonly query: URLSearchParams;
  readonly switches: Switches;
}

/**
 * A page of a collection as Laravel's paginator renders it: filters, order, fields, and links on the upstream's host, with
 * slashes escaped.
 *
 * @param asked with the URL for links
 */
export function list(items: readonly Item[], asked: ItemQuery & { readonly url: string }): Result {
  const { query, url, switches } = asked;
  const page = wholeOf(query.get('page'), 1);
  const wanted = wholeOf(query.get('per_page'), 15);
  const refuse = (field: string, rule: string, text: string) => invalid({ [field]: { [rule]: text } }, switches);
  if (page === null || page < 1) return refuse('page', 'min', 'The page must be a whole number from 1.');
  if (wanted === null || wanted < 1) return refuse('per_page', 'min', 'The per page must be a whole number from 1.');
  if (wanted > 100 && switches.largePages === 'refuse') {
    return refuse('per_page', 'max', 'The per page may not be greater than 100.');
  }
  const perPage = switches.largePages === 'accept' ? wanted : Math.min(wanted, 100);
  const chosen = sorted(filtered(items, query), query.get('sort'));
  const data = chosen.slice((page - 1) * perPage, page * perPage).map((item) => present(item, asked));
  const { links, meta } = paginate({ page, perPage, total: chosen.length, count: data.length }, url, query);
  return json(200, { data, links, meta });
}

/** An item with the requested fields and relations, in the shape of the switch. */
export function present(item: Item, asked: ItemQuery): unknown {
  const shown = { ...withFields(item, asked), ...relations(item, asked) };
  if (asked.switches.shape === 'flat') return shown;
  const { id, ...attributes } = shown;
  return { id, type: asked.collection.slice(asked.collection.lastIndexOf('/') + 1), attributes };
}

/** Filters that are no field of an item. Times are epoch milliseconds. */
const FILTERS: Readonly<Record<string, (item: Item, value: string) => boolean>> = {
  started_after: (item, value) => Date.parse(String(item['created_at'])) >= Number(value),
  started_before: (item, value) => Date.parse(String(item['created_at'])) <= Number(value),
  search: (item, value) => String(item['name']).includes(value),
};

function filtered(items: readonly Item[], query: URLSearchParams): Item[] {
  let left = [...items];
  for (const [name, value] of query) {
    const field = /^filter\[([\w.]+)\]$/.exec(name)?.[1];
    if (field === undefined) continue;
    const filter = FILTERS[field];
    const wanted = new Set(value.split(','));
    left = left.filter((item) => (filter === undefined ? wanted.has(String(item[field])) : filter(item, value)));
  }
  return left;
}

function sorted(items: Item[], sort: string | null): Item[] {
  if (sort === null || sort === '') return items;
  const fields = sort
    .split(',')
    .map((field) => ({ name: field.replace(/^-/, ''), sign: field.startsWith('-') ? -1 : 1 }));
  return items.sort((a, b) => {
    for (const { name, sign } of fields) {
      const order = compare(a[name], b[name]);
      if (order !== 0) return order * sign;
    }
    return 0;
  });
}

function compare(a: unknown, b: unknown): number {
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  const [left, right] = [String(a ?? ''), String(b ?? '')];
  // Comparison by locale would differ between machines.
  if (left === right) return 0;
  return left < right ? -1 : 1;
}

/** `fields[flow-runs]=status` keeps this field and the id; fields of other types concern relations. */
function withFields(item: Item, { query, collection }: ItemQuery): Item {
  for (const [name, value] of query) {
    const type = /^fields\[([\w/-]+)\]$/.exec(name)?.[1];
    if (type === undefined || singular(type) !== singular(collection)) continue;
    const wanted = new Set(['id', ...value.split(',')]);
    return Object.fromEntries(Object.entries(item).filter(([key]) => wanted.has(key))) as Item;
  }
  return item;
}

/** The relations that `include` names, as a list, in several parameters, or with brackets, as PHP and Laravel read them. */
function relations(item: Item, { data, query }: ItemQuery): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [parameter, value] of query) {
    if (!/^includes?(\[|$)/.test(parameter)) continue;
    for (const path of value.split(',')) if (path !== '') found[path.split('.')[0] ?? ''] = related(item, path, data);
  }
  return found;
}

const FLOW_VERSION = /^(latest|deployed|current)Version$/;

/** `flow` of an item with a `flow_id`, `latestVersion.variables`, `variables_count`; other names give an empty list. */
function related(item: Item, path: string, data: Dataset): unknown {
  const [name = '', ...below] = path.split('.');
  if (/_?count$/i.test(name)) return 2;
  if (/_?exists$/i.test(name)) return true;
  const secret = secretRelation(name, item);
  if (secret !== null) return secret;
  const model = singular(name.replace(/[A-Z]/g, (capital) => `_${capital.toLowerCase()}`));
  const [of, id] = FLOW_VERSION.test(name) ? ['flow_version', item.id] : [model, item[`${model}_id`]];
  if (id === undefined) return [];
  const other = data.get(collectionOf(of), Number(id)) ?? null;
  return other === null || below.length === 0
    ? other
    : { ...other, [below[0] ?? '']: related(other, below.join('.'), data) };
}

function collectionOf(model: string): string {
  const name = `${model.replaceAll('_', '-')}s`;
  return ['packages', 'virtual-environments'].includes(name) ? `flow-version-deployments/${name}` : name;
}

/** `flow-runs`, `flow_run` and `patchworks/flow-runs` are the same type: clients use all three. */
function singular(type: string): string {
  return type
    .slice(type.lastIndexOf('/') + 1)
    .replaceAll('-', '_')
    .replace(/s$/, '');
}

function wholeOf(text: string | null, fallback: number): number | null {
  if (text === null || text === '') return fallback;
  return /^\d{1,9}$/.test(text) ? Number(text) : null;
}
