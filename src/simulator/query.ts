import type { Dataset } from './dataset.ts';
import type { Item } from './items.ts';
import { paginate } from './paginator.ts';
import type { Switches } from './switches.ts';

export type ListResult =
  | { readonly ok: true; readonly json: string }
  | { readonly ok: false; readonly errors: Readonly<Record<string, string[]>> };

/** The query of a list: the collection, the query string, and the URL for links. */
export interface ListQuery {
  readonly data: Dataset;
  readonly collection: string;
  readonly query: URLSearchParams;
  readonly url: string;
  readonly switches: Switches;
}

/**
 * A page of a collection as Laravel's paginator renders it: filters, order, fields, and links on the upstream's host, with
 * slashes escaped.
 */
export function list(items: readonly Item[], asked: ListQuery): ListResult {
  const { query, url, switches } = asked;
  const page = wholeOf(query.get('page'), 1);
  let perPage = wholeOf(query.get('per_page'), 15);
  if (page === null || page < 1) return refused('page', 'The page must be a whole number from 1.');
  if (perPage === null || perPage < 1) return refused('per_page', 'The per page must be a whole number from 1.');
  if (perPage > 100) {
    if (switches.largePages === 'refuse') return refused('per_page', 'The per page may not be greater than 100.');
    perPage = 100;
  }
  const chosen = sorted(filtered(items, query), query.get('sort'));
  const data = chosen.slice((page - 1) * perPage, page * perPage).map((item) => present(item, asked));
  const { links, meta } = paginate({ page, perPage, total: chosen.length, count: data.length }, url, query);
  return { ok: true, json: laravelJson({ data, links, meta }) };
}

/** PHP's json_encode: compact, with slashes escaped. */
export function laravelJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('/', '\\/');
}

/** An item with the requested fields and relations, in the shape of the switch. */
export function present(item: Item, asked: ListQuery): unknown {
  const shown = { ...withFields(item, asked), ...relations(item, asked) };
  if (asked.switches.shape === 'flat') return shown;
  const { id, ...attributes } = shown;
  return { id, type: asked.collection.slice(asked.collection.lastIndexOf('/') + 1), attributes };
}

function filtered(items: readonly Item[], query: URLSearchParams): Item[] {
  let left = [...items];
  for (const [name, value] of query) {
    const field = /^filter\[([\w.]+)\]$/.exec(name)?.[1];
    if (field === undefined) continue;
    const wanted = new Set(value.split(','));
    left = left.filter((item) => wanted.has(String(item[field])));
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
function withFields(item: Item, { query, collection }: ListQuery): Item {
  for (const [name, value] of query) {
    const type = /^fields\[([\w/-]+)\]$/.exec(name)?.[1];
    if (type === undefined || singular(type) !== singular(collection)) continue;
    const wanted = new Set(['id', ...value.split(',')]);
    return Object.fromEntries(Object.entries(item).filter(([key]) => wanted.has(key))) as Item;
  }
  return item;
}

/** `include=flow` on an item with a `flow_id`; other names give an empty list. */
function relations(item: Item, { data, query }: ListQuery): Record<string, unknown> {
  const names = query.get('include') ?? query.get('includes') ?? '';
  const found: Record<string, unknown> = {};
  for (const name of names.split(',')) {
    if (name === '') continue;
    const id = item[`${singular(name)}_id`];
    const collection = `${singular(name).replaceAll('_', '-')}s`;
    found[name] = id === undefined ? [] : (data.get(collection, Number(id)) ?? null);
  }
  return found;
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

function refused(field: string, message: string): ListResult {
  return { ok: false, errors: { [field]: [message] } };
}
