// The dashboards as the files that Grafana reads. They are generated: twenty panels of a kind differ in their query, title
// and advice, and the hundred lines of JSON around each are for a program to write.
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
