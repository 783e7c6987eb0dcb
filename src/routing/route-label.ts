import type { Pattern } from './pattern.ts';

/** The resources of Patchworks directly below `/api/v1`: the values that the label may have, or callers could make as many as they like. */
const RESOURCES = [
  'agents ai api-keys cache-step caches companies connection-pools connectors cross-reference-lookups data-pool',
  'flow-run-logs flow-runs flow-version-deployments flow-versions flows mcp-servers model-notes notifications patchworks',
  'payload-metadata scheduled-flows script-versions scripts systems tracked-data users',
].flatMap((names) => names.split(' '));
const LABELS: ReadonlyMap<string, string> = new Map(RESOURCES.map((name) => [name, `/api/v1/${name}`]));
const OTHER = 'other';

/**
 * The route of a request in metrics, logs and traces: its resource, where the route is one for the whole API (`/api/v1/**`), so that
 * the label tells what uses the quota. A route that is more exact has its own path as label.
 */
export function routeLabel(
  { match, template }: { readonly match: Pattern; readonly template: string },
  segments: readonly string[],
): string {
  const [api, version, resource] = segments;
  const isForAll = match.segments.at(-1) === '**' && match.segments.length <= 3;
  if (!isForAll || api !== 'api' || version !== 'v1' || resource === undefined) return template;
  return LABELS.get(resource) ?? OTHER;
}
