// Writes the generated files: docs/configuration.md, the JSON Schemas and the chart's schema from the options, the Grafana
// dashboards, and docs/licences.md from the installed packages. Needs a build.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chartFiles, leftovers } from './chart/files.mjs';
import { dashboardFiles } from './dashboards/render.mjs';
import { licencesPage } from './supply/licences.mjs';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const { configurationPage, gatewayJsonSchema, tenantsJsonSchema } = await import(inRoot('dist/config/document.js'));

mkdirSync(inRoot('docs'), { recursive: true });
writeFileSync(inRoot('docs/configuration.md'), configurationPage());
writeFileSync(inRoot('docs/licences.md'), licencesPage());
writeFileSync(inRoot('config/gateway.schema.json'), `${JSON.stringify(gatewayJsonSchema(), null, 2)}\n`);
writeFileSync(inRoot('config/tenants.schema.json'), `${JSON.stringify(tenantsJsonSchema(), null, 2)}\n`);

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
