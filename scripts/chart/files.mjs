// The generated files of helm/patchgate: values.schema.json, the table of values in README.md, and copies of the rules and dashboards,
// because Helm reads no file outside a chart. `npm run generate` writes them, and a test compares them.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { documentedValues } from './documented.mjs';
import { valuesSchema } from './schema.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (/** @type {string} */ path) => readFileSync(`${root}${path}`, 'utf8');
const CHART = 'helm/patchgate';

/** Directories whose files the chart copies. */
export const COPIES = /** @type {const} */ ([
  { from: 'deploy/prometheus/rules', to: `${CHART}/files/rules`, ending: '.yaml' },
  { from: 'deploy/grafana/dashboards', to: `${CHART}/files/dashboards`, ending: '.json' },
]);

/** Path from the root of the repository → content. @returns {Map<string, string>} */
export function chartFiles() {
  const values = documentedValues(read(`${CHART}/values.yaml`));
  const schema = valuesSchema({
    values,
    types: read(`${CHART}/values.types.yaml`),
    gateway: JSON.parse(read('config/gateway.schema.json')),
    tenants: JSON.parse(read('config/tenants.schema.json')),
  });
  const made = new Map([
    [`${CHART}/values.schema.json`, `${JSON.stringify(schema, null, 2)}\n`],
    [`${CHART}/README.md`, withTable(read(`${CHART}/README.md`), table(values))],
  ]);
  for (const { from, to, ending } of COPIES) {
    for (const name of filesIn(from, ending)) made.set(`${to}/${name}`, read(`${from}/${name}`));
  }
  return made;
}

/** Copies without an original. @returns {string[]} */
export function leftovers() {
  return COPIES.flatMap(({ from, to, ending }) => {
    const originals = new Set(filesIn(from, ending));
    return filesIn(to, ending)
      .filter((name) => !originals.has(name))
      .map((name) => `${to}/${name}`);
  });
}

/** @param {string} folder @param {string} ending */
function filesIn(folder, ending) {
  if (!existsSync(`${root}${folder}`)) return [];
  return readdirSync(`${root}${folder}`)
    .filter((name) => name.endsWith(ending))
    .sort();
}

const BEGIN = '<!-- values: made from values.yaml by `npm run generate` -->';
const END = '<!-- /values -->';

/** @param {string} page @param {string} made */
function withTable(page, made) {
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined)
    throw new Error(`${CHART}/README.md has lost the marks of its table`);
  return `${before}${BEGIN}\n${made}\n${END}${after}`;
}

/** @param {readonly import('./documented.mjs').Value[]} values */
function table(values) {
  const rows = values.map(({ path, description, fallback }) => {
    const shown = JSON.stringify(fallback).replaceAll('|', '\\|');
    return `| \`${path}\` | ${shown.length > 60 ? 'see values.yaml' : `\`${shown}\``} | ${description.replaceAll('|', '\\|')} |`;
  });
  return ['| value | default | what it does |', '| --- | --- | --- |', ...rows].join('\n');
}
