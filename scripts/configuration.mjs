// Renders docs/configuration.md and the JSON Schemas from the options, so that they have exactly those that exist.
import { z } from 'zod';

/** @typedef {typeof import('../src/config/schema.ts') & typeof import('../src/config/tenant-schema.ts')} Schemas */
/** @typedef {typeof import('../src/config/option-types.ts') & typeof import('../src/config/issues.ts')} Helpers */
/** The exports of these modules. @typedef {Schemas & Helpers & typeof import('../src/config/patchworks-defaults.ts')} Options */
/** @typedef {import('../src/config/option-types.ts').OptionMeta} OptionMeta */
/** @typedef {OptionMeta & { path: string, fallback: string }} Option */

const INTRO = `# Configuration

<!-- Generated from src/config/schema.ts by \`npm run generate\`. Change it there. -->

For an operator who looks up an option. The gateway reads \`config/gateway.yaml\`, or the file given
with \`--config\`. Only credentials and tenants are required; all other options have defaults for
Patchworks. \`patchgate check\` validates a configuration and prints how much each account can send.

- **Strict.** An unknown option is an error, with file, line and a suggestion. All errors are
  reported at once, and with any of them the gateway does not start.
- **YAML 1.2**, so JSON is accepted. Tenants are in \`tenants.yaml\` beside the file, or under
  \`tenants\` in it.
- **Placeholders** are filled in at load, in any text: \`\${NAME}\` from the environment,
  \`\${NAME:-default}\` with a default for unset or empty, \`\${file:/path}\` from a file (relative to
  this one; one trailing newline is removed). \`$\${\` is a plain \`\${\`. A value cannot become
  structure: a password may contain any character.
- **Files** of every kind are regular files of at most 8 MiB, read within 10s together; a pipe or a
  device is an error. A secret has at most 8 KiB. A file is at most 50 levels deep, without tags;
  aliases may repeat a part, and not contain themselves.
- **Durations** are written \`250ms 30s 5m 24h 180d\`, **sizes** \`64KiB 10MiB\`. Plain numbers are
  rejected for both.
- **Patterns** are \`METHOD /path\`: \`*\` is one segment or all methods, and \`**\` the rest.
  \`/a/**\` matches \`/a\` and all below it. \`GET\` covers HEAD. A trailing slash changes nothing.
`;

/** @param {Options} options */
export function configurationPage(options) {
  const { gatewaySchema, tenantsFileSchema } = options;
  return [
    INTRO,
    '## gateway.yaml\n',
    table(optionsOf(options, gatewaySchema).filter((option) => !option.path.startsWith('tenants.'))),
    '\n## tenants.yaml\n',
    table(optionsOf(options, tenantsFileSchema)),
    '\n## Environment\n',
    '| variable | what it does |\n| --- | --- |',
    '| `LOG_LEVEL` | Overrides `log.level`. |',
    '\n## Defaults for Patchworks\n',
    'These values are in force where `upstreams`, `routes`, `cache.rules` or `cache.invalidate` are not\nset. A list that is set replaces its default.\n',
    'The default cache rules name what is stored: definitions without secrets and customer data. Rules\nof your own need the same care. One for `GET /api/v1/**` would store the passwords of connectors.\n',
    '```yaml',
    ...defaultsAsYaml(options),
    '```\n',
  ].join('\n');
}

/** @param {Options} options */
export function gatewayJsonSchema({ gatewaySchema }) {
  return jsonSchema(gatewaySchema, 'patchgate: gateway.yaml');
}

/** @param {Options} options */
export function tenantsJsonSchema({ tenantsFileSchema }) {
  return jsonSchema(tenantsFileSchema, 'patchgate: tenants.yaml');
}

/** @param {z.ZodType} schema @param {string} title */
function jsonSchema(schema, title) {
  const made = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema: json }) => {
      // A key of the documentation alone would be no JSON Schema.
      delete json['unit'];
      delete json.default;
    },
  });
  return { $schema: 'https://json-schema.org/draft/2020-12/schema', title, ...made };
}

/** @param {Options} options @param {z.ZodType} schema @returns {Option[]} */
function optionsOf(options, schema, path = '') {
  const meta = metaOf(schema);
  const plain = options.unwrap(schema);
  /** @type {Option[]} */
  const own = meta === null ? [] : [{ ...plain.meta(), ...meta, path, fallback: fallbackOf(schema) }];
  if (plain instanceof z.ZodObject) {
    const fields = Object.entries(/** @type {Record<string, z.ZodType>} */ (plain.shape));
    return [
      ...own,
      ...fields.flatMap(([name, field]) => optionsOf(options, field, path === '' ? name : `${path}.${name}`)),
    ];
  }
  if (plain instanceof z.ZodRecord)
    return [...own, ...optionsOf(options, /** @type {z.ZodType} */ (plain.valueType), `${path}.NAME`)];
  if (plain instanceof z.ZodArray)
    return [...own, ...optionsOf(options, /** @type {z.ZodType} */ (plain.element), `${path}[]`)];
  if (plain instanceof z.ZodUnion) {
    const all = plain.options.flatMap((option) => optionsOf(options, /** @type {z.ZodType} */ (option), path));
    /** @type {Map<string, Option>} */
    const merged = new Map();
    for (const option of all) if (!merged.has(option.path)) merged.set(option.path, option);
    return [...own, ...merged.values()];
  }
  return own;
}

/** The default as it is written in YAML; '' where there is none. @param {z.ZodType} schema */
function fallbackOf(schema) {
  if (!(schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault))
    return schema.safeParse(undefined).success ? '' : 'required';
  const value = schema.def.defaultValue;
  if (Array.isArray(value)) return `\`[${value.join(', ')}]\``;
  return `\`${typeof value === 'string' && value !== '' ? value : JSON.stringify(value)}\``;
}

/** @param {z.ZodType} schema */
function metaOf(schema) {
  const meta = schema.meta();
  return typeof meta?.['description'] === 'string' ? /** @type {OptionMeta} */ (/** @type {unknown} */ (meta)) : null;
}

/** @param {readonly Option[]} options */
function table(options) {
  const rows = options.map(
    ({ path, unit = '', fallback, description }) =>
      `| \`${path}\` | ${unit} | ${fallback} | ${description.replaceAll('|', '\\|')} |`,
  );
  return ['| option | unit | default | what it does |', '| --- | --- | --- | --- |', ...rows].join('\n');
}

/** @param {Options} options */
function defaultsAsYaml({ upstreamDefaults, routeDefaults, cacheRuleDefaults, invalidateDefaults, showDuration }) {
  return [
    'upstreams:',
    ...Object.entries(upstreamDefaults).map(
      ([id, { origin, timeoutMs }]) => `  ${id}: { origin: "${origin}", timeout: ${showDuration(timeoutMs)} }`,
    ),
    'routes:',
    ...routeDefaults.map(({ match, upstream }) => `  - { match: "${match}", upstream: ${upstream} }`),
    'cache:',
    '  rules:',
    ...cacheRuleDefaults.map((rule, index) =>
      rule.store
        ? `    - { match: "${rule.match.text}", ttl: ${showDuration(rule.ttlMs)}${stalesOf(rule, showDuration)}, unless: ${index === 0 ? unlessOf(rule) : '*secrets'} }`
        : `    - { match: "${rule.match.text}", store: false }`,
    ),
    '  invalidate:',
    ...invalidateDefaults.map(
      ({ after, drop }) => `    - { after: "${after.text}", drop: [${drop.map((path) => `"${path}"`).join(', ')}] }`,
    ),
  ];
}

/** Written once: all default rules have the same. @param {Extract<import('../src/cache/options.ts').CacheRule, { store: true }>} rule */
function unlessOf({ unless }) {
  const all = Object.entries(unless).map(([name, values]) => `${name}: [${values.join(', ')}]`);
  return `&secrets { ${all.join(', ')} }`;
}

/** @param {Extract<import('../src/cache/options.ts').CacheRule, { store: true }>} rule @param {Options['showDuration']} showDuration */
function stalesOf({ staleWhileRevalidateMs, staleIfErrorMs, staleIfThrottledMs }, showDuration) {
  return Object.entries({
    staleWhileRevalidate: staleWhileRevalidateMs,
    staleIfError: staleIfErrorMs,
    staleIfThrottled: staleIfThrottledMs,
  })
    .map(([name, ms]) => (ms > 0 ? `, ${name}: ${showDuration(ms)}` : ''))
    .join('');
}
