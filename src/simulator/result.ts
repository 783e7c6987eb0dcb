import { laravelJson } from './query.ts';

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

export const json = (status: number, value: unknown): Result => ({ kind: 'json', status, json: laravelJson(value) });

export const message = (status: number, text: string): Result => json(status, { message: text });

/** The texts are Laravel's. */
export const missing = (model: string, id: string | undefined): Result =>
  message(404, `No query results for model [App\\Models\\${model}] ${id ?? ''}`.trimEnd());

export const forbidden = (): Result => message(403, 'This action is unauthorized.');

/** 422; the message is the first error, with a count of the others. */
export function invalid(errors: Readonly<Record<string, readonly string[]>>): Result {
  const all = Object.values(errors).flat();
  const more = all.length > 1 ? ` (and ${all.length - 1} more error${all.length > 2 ? 's' : ''})` : '';
  return json(422, { message: `${all[0] ?? 'The given data was invalid.'}${more}`, errors });
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
