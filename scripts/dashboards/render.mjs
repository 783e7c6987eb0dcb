// Renders the files that Grafana reads. They are generated, because panels of a kind differ only in query, title and advice, and
// each has a hundred lines of JSON around that.
import { infrastructure } from './infrastructure.mjs';
import { overview } from './overview.mjs';
import { tenant } from './tenant.mjs';

/** @returns {Record<string, string>} text by file name */
export function dashboardFiles() {
  const all = { overview: overview(), tenant: tenant(), infrastructure: infrastructure() };
  return Object.fromEntries(
    Object.entries(all).map(([name, dashboard]) => [`${name}.json`, `${JSON.stringify(dashboard, null, 2)}\n`]),
  );
}
