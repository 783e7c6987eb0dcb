// Writes the generated files: docs/configuration.md, the JSON Schemas and the chart's schema from the options, the Grafana
// dashboards, and docs/licences.md from the installed packages. Needs a build.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chartFiles, leftovers } from './chart/files.mjs';
import { configurationPage, gatewayJsonSchema, tenantsJsonSchema } from './configuration.mjs';
import { dashboardFiles } from './dashboards/render.mjs';
import { licencesPage } from './supply/licences.mjs';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const modules = ['schema', 'tenant-schema', 'issues', 'option-types', 'patchworks-defaults'];
/** @type {import('./configuration.mjs').Options} */
const options = Object.assign(
  {},
  ...(await Promise.all(modules.map((name) => import(inRoot(`dist/config/${name}.js`))))),
);

mkdirSync(inRoot('docs'), { recursive: true });
writeFileSync(inRoot('docs/configuration.md'), configurationPage(options));
writeFileSync(inRoot('docs/licences.md'), licencesPage());
writeFileSync(inRoot('config/gateway.schema.json'), `${JSON.stringify(gatewayJsonSchema(options), null, 2)}\n`);
writeFileSync(inRoot('config/tenants.schema.json'), `${JSON.stringify(tenantsJsonSchema(options), null, 2)}\n`);

mkdirSync(inRoot('deploy/grafana/dashboards'), { recursive: true });
for (const [name, text] of Object.entries(dashboardFiles())) {
  writeFileSync(inRoot(`deploy/grafana/dashboards/${name}`), text);
}

// After the dashboards, because the chart contains them.
for (const path of leftovers()) rmSync(inRoot(path));
for (const [path, content] of chartFiles()) {
  mkdirSync(dirname(inRoot(path)), { recursive: true });
  writeFileSync(inRoot(path), content);
}
