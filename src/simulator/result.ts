/** The response of a route, before it is written. */
export type Result =
  | { readonly kind: 'json'; readonly status: number; readonly json: string | Buffer }
  | {
      readonly kind: 'download';
      readonly bytes: number;
      readonly type: string;
      /** With a Content-Length, or in chunks. */
      readonly framing: 'length' | 'chunked';
    }
  | { readonly kind: 'redirect'; readonly location: string };

/** The faults of a request: by field, the reason of each rule. */
export type Errors = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** PHP's json_encode: compact, with slashes escaped. */
export function laravelJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('/', '\\/');
}

export const json = (status: number, value: unknown): Result => ({ kind: 'json', status, json: laravelJson(value) });

export const message = (status: number, text: string): Result => json(status, { message: text });

/** The texts are Laravel's. */
export const missing = (model: string, id: string | undefined): Result =>
  message(404, `No query results for model [App\\Models\\${model}] ${id ?? ''}`.trimEnd());

export const forbidden = (): Result => message(403, 'This action is unauthorized.');

/** 422; the message is the first error, with a count of the others. */
export function invalid(
  errors: Errors,
  { validationErrors }: { readonly validationErrors: 'texts' | 'rules' },
): Result {
  const all = Object.values(errors).flatMap((rules) => Object.values(rules));
  const more = all.length > 1 ? ` (and ${all.length - 1} more error${all.length > 2 ? 's' : ''})` : '';
  const shown = Object.entries(errors).map(([field, rules]) => [
    field,
    validationErrors === 'texts'
      ? Object.values(rules)
      : Object.entries(rules).map(([rule, text]) => ({ [rule]: text })),
  ]);
  return json(422, {
    message: `${all[0] ?? 'The given data was invalid.'}${more}`,
    errors: Object.fromEntries(shown),
  });
}

/** The body as an object: {} for an empty body, null if it is not a JSON object. */
export function objectOf(body: Buffer): Record<string, unknown> | null {
  if (body.length === 0) return {};
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return null;
    return parsed as Record<string, unknown>;
  } catch {
    return null;
  }
}
