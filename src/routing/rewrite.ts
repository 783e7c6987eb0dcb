import type { Pattern } from './pattern.ts';

/** Another beginning of a path at the upstream, in place of the literal segments before the first wildcard of a route. */
export interface Rewrite {
  /** Number of segments that are replaced. */
  readonly fixed: number;
  /** The replaced beginning, such as `/callbacks/orders`; '' for nothing. */
  readonly from: string;
  /** The replacement, such as `/api/v1/acme/42`; '' for nothing. */
  readonly to: string;
}

/** @param to a canonical path */
export function rewriteOf({ segments }: Pattern, to: string): Rewrite {
  const wildcard = segments.findIndex((segment) => segment === '*' || segment === '**');
  const fixed = wildcard === -1 ? segments.length : wildcard;
  return { fixed, from: encodeURI(pathOf(segments.slice(0, fixed))), to: to.replace(/\/$/, '') };
}

/**
 * The raw target with another beginning; all that follows stays as it is, byte for byte. A canonical path has no dot segment, no empty
 * segment and no escaped slash, so that nothing behind the new beginning leads out of it.
 *
 * @param target one whose path is canonical and matches the route
 */
export function rewriteTarget({ fixed, to }: Rewrite, target: string): string {
  const mark = target.indexOf('?');
  const pathEnd = mark === -1 ? target.length : mark;
  let at = 0;
  for (let i = 0; i < fixed; i++) {
    const slash = target.indexOf('/', at + 1);
    at = slash === -1 || slash > pathEnd ? pathEnd : slash;
  }
  const rewritten = to + target.slice(at);
  return rewritten.startsWith('/') ? rewritten : `/${rewritten}`;
}

/** The same for decoded segments, or for those of a pattern that begins with the same segments; null: it begins otherwise. */
export function rewriteSegments({ fixed, from, to }: Rewrite, segments: readonly string[]): readonly string[] | null {
  if (encodeURI(pathOf(segments.slice(0, fixed))) !== from) return null;
  return [...to.split('/').slice(1).map(decodeURIComponent), ...segments.slice(fixed)];
}

/** A path of the upstream as callers know it; unchanged if it has another beginning. @param path it may have a query */
export function originalPath({ from, to }: Rewrite, path: string): string {
  if (!path.startsWith(to) || !/^(?:[/?#]|$)/.test(path.slice(to.length))) return path;
  return from + path.slice(to.length);
}

function pathOf(segments: readonly string[]): string {
  return segments.map((segment) => `/${segment}`).join('');
}
