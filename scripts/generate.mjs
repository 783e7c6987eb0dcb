// Writes what is made from the schema: docs/configuration.md and the JSON Schemas. Needs a build.
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const inRoot = (/** @type {string} */ path) => fileURLToPath(new URL(`../${path}`, import.meta.url));
const { configurationPage, gatewayJsonSchema, tenantsJsonSchema } = await import(inRoot('dist/config/document.js'));

mkdirSync(inRoot('docs'), { recursive: true });
writeFileSync(inRoot('docs/configuration.md'), configurationPage());
writeFileSync(inRoot('config/gateway.schema.json'), `${JSON.stringify(gatewayJsonSchema(), null, 2)}\n`);
writeFileSync(inRoot('config/tenants.schema.json'), `${JSON.stringify(tenantsJsonSchema(), null, 2)}\n`);
