import type { Item } from './dataset.ts';
import type { Switches } from './options.ts';

export type Listed =
  | { readonly ok: true; readonly json: string }
  | { readonly ok: false; readonly errors: Readonly<Record<string, string[]>> };

/**
 * A page of a collection as Laravel's paginator renders it: filters, order, fields, and links on the upstream's host, with
 * slashes escaped.
 */
export function list(
  items: readonly Item[],
  query: URLSearchParams,
  base: string,
  path: string,
  switches: Switches,
): Listed {
  const page = wholeOf(query.get('page'), 1);
  let perPage = wholeOf(query.get('per_page'), 15);
  if (page === null || page < 1) return refused('page', 'The page must be a whole number from 1.');
  if (perPage === null || perPage < 1) return refused('per_page', 'The per page must be a whole number from 1.');
  if (perPage > 100) {
    if (switches.largePages === 'refuse') return refused('per_page', 'The per page may not be greater than 100.');
    perPage = 100;
  }
  const chosen = sorted(filtered(items, query), query.get('sort'));
  const total = chosen.length;
  const last = Math.max(1, Math.ceil(total / perPage));
  const from = (page - 1) * perPage;
  const data = chosen.slice(from, from + perPage).map((item) => shaped(withFields(item, query), path, switches));
  const url = (to: number): string => {
    const parameters = new URLSearchParams(query);
    parameters.set('page', String(to));
    return `${base}${path}?${parameters}`;
  };
  const links = {
    first: url(1),
    last: url(last),
    prev: page > 1 ? url(page - 1) : null,
    next: page < last ? url(page + 1) : null,
  };
  const meta = {
    current_page: page,
    from: data.length > 0 ? from + 1 : null,
    last_page: last,
    links: [
      { url: links.prev, label: '&laquo; Previous', active: false },
      { url: url(page), label: String(page), active: true },
      { url: links.next, label: 'Next &raquo;', active: false },
    ],
    path: `${base}${path}`,
    per_page: perPage,
    to: data.length > 0 ? from + data.length : null,
    total,
  };
  return { ok: true, json: laravelJson({ data, links, meta }) };
}

/** PHP's json_encode: compact, with slashes escaped. */
export function laravelJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('/', '\\/');
}

export function shaped(item: Item, path: string, switches: Switches): unknown {
  if (switches.shape === 'flat') return item;
  const { id, ...attributes } = item;
  return { id, type: path.split('/').findLast((segment) => !/^\d*$/.test(segment)), attributes };
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
  return String(a ?? '').localeCompare(String(b ?? ''));
}

function withFields(item: Item, query: URLSearchParams): Item {
  let kept: Item = item;
  for (const [name, value] of query) {
    if (!/^fields\[[\w-]+\]$/.test(name)) continue;
    const wanted = new Set(['id', ...value.split(',')]);
    kept = Object.fromEntries(Object.entries(kept).filter(([key]) => wanted.has(key))) as Item;
  }
  const includes = query.get('include') ?? query.get('includes');
  if (includes) for (const name of includes.split(',')) kept = { ...kept, [name]: [] };
  return kept;
}

function wholeOf(text: string | null, fallback: number): number | null {
  if (text === null || text === '') return fallback;
  return /^\d{1,9}$/.test(text) ? Number(text) : null;
}

function refused(field: string, message: string): Listed {
  return { ok: false, errors: { [field]: [message] } };
}
