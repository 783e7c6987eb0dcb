export interface Page {
  readonly page: number;
  readonly perPage: number;
  readonly total: number;
  /** Items on this page. */
  readonly count: number;
}

interface Link {
  readonly url: string | null;
  readonly label: string;
  readonly active: boolean;
}

/** `links` and `meta` of Laravel's paginator. `url` is the collection's, without a query. */
export function paginate({ page, perPage, total, count }: Page, url: string, query: URLSearchParams) {
  const last = Math.max(1, Math.ceil(total / perPage));
  const urlOf = (to: number): string => {
    const parameters = new URLSearchParams(query);
    parameters.set('page', String(to));
    return `${url}?${parameters}`;
  };
  const prev = page > 1 ? urlOf(page - 1) : null;
  const next = page < last ? urlOf(page + 1) : null;
  const from = (page - 1) * perPage;
  const numbered = pagesShown(page, last).map(
    (shown): Link =>
      shown === null
        ? { url: null, label: '...', active: false }
        : { url: urlOf(shown), label: String(shown), active: shown === page },
  );
  return {
    links: { first: urlOf(1), last: urlOf(last), prev, next },
    meta: {
      current_page: page,
      from: count > 0 ? from + 1 : null,
      last_page: last,
      links: [
        { url: prev, label: '&laquo; Previous', active: false },
        ...numbered,
        { url: next, label: 'Next &raquo;', active: false },
      ],
      path: url,
      per_page: perPage,
      to: count > 0 ? from + count : null,
      total,
    },
  };
}

/** Laravel's UrlWindow with three pages on each side; null is the gap. */
function pagesShown(page: number, last: number): (number | null)[] {
  const side = 3;
  const edge = side + 4;
  if (last < side * 2 + 8) return span(1, last);
  if (page <= edge) return [...span(1, edge + side), null, ...span(last - 1, last)];
  if (page > last - edge) return [...span(1, 2), null, ...span(last - (edge + side - 1), last)];
  return [...span(1, 2), null, ...span(page - side, page + side), null, ...span(last - 1, last)];
}

function span(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}
