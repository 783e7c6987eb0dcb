// Makes the chart's values.schema.json: types from values.types.yaml, descriptions from values.yaml, and for `config` and
// `tenants` the gateway's own schemas, so that Helm rejects what the gateway would reject.
import { parse } from 'yaml';

/** @typedef {{ [key: string]: any }} Json */

/**
 * @param {{ values: readonly import('./documented.mjs').Value[], types: string, gateway: Json, tenants: Json }} input
 * @returns {Json}
 */
export function valuesSchema({ values, types, gateway, tenants }) {
  const known = parse(types);
  /** @type {Json} */
  const root = {
    ...emptyMap(),
    properties: { global: { type: 'object', description: 'Helm hands it to every chart.' } },
  };
  for (const { path, description } of values) {
    const type = known.values[path];
    if (type === undefined) throw new Error(`values.types.yaml says nothing about ${path}`);
    const made = OF_THE_GATEWAY[path]?.({ gateway, tenants }) ?? resolved(type, known.types);
    mapAt(root, path.split('.').slice(0, -1)).properties[path.split('.').at(-1) ?? ''] = { description, ...made };
  }
  const left = Object.keys(known.values).filter((path) => !values.some((value) => value.path === path));
  if (left.length > 0)
    throw new Error(`values.types.yaml knows values that values.yaml does not have: ${left.join(', ')}`);
  return { $schema: 'http://json-schema.org/draft-07/schema#', title: 'Values of the patchgate chart', ...root };
}

/** Values with the gateway's own schemas. @type {Record<string, (schemas: { gateway: Json, tenants: Json }) => Json>} */
const OF_THE_GATEWAY = {
  config: ({ gateway }) => configOf(gateway),
  tenants: ({ tenants }) => tenantsOf(tenants),
  'admin.tokens': ({ gateway }) => tokensOf(gateway),
};

/** @returns {Json} */
const emptyMap = () => ({ type: 'object', additionalProperties: false, properties: {} });

/** @param {Json} from @param {string[]} path @returns {Json} */
function mapAt(from, path) {
  let map = from;
  for (const step of path) map = map['properties'][step] ??= emptyMap();
  return map;
}

/** Puts in what `$type` names. @param {Json} type @param {Json} types @returns {Json} */
function resolved(type, types) {
  if (typeof type !== 'object' || type === null) return type;
  if (Array.isArray(type)) return type.map((each) => resolved(each, types));
  if (typeof type['$type'] === 'string') {
    const named = types[type['$type']];
    if (named === undefined) throw new Error(`values.types.yaml has no type ${type['$type']}`);
    return resolved(named, types);
  }
  return Object.fromEntries(Object.entries(type).map(([key, each]) => [key, resolved(each, types)]));
}

/** gateway.yaml without the settings of the chart; rendering requires `accounts`, because the defaults have none. */
function configOf(/** @type {Json} */ gateway) {
  const { tenants: _, tenantsFile: __, listen, ...properties } = gateway['properties'];
  const { traffic: ___, admin: ____, ...ours } = listen.properties;
  return {
    type: 'object',
    additionalProperties: false,
    properties: withPlaceholders({ listen: { ...listen, properties: ours }, ...properties }),
  };
}

function tokensOf(/** @type {Json} */ gateway) {
  const { description: _, ...list } = gateway['properties'].listen.properties.admin.properties.tokens;
  return withPlaceholders(list);
}

function tenantsOf(/** @type {Json} */ tenants) {
  const { description: _, ...map } = tenants['properties'].tenants;
  return withPlaceholders(map);
}

/** A placeholder that the gateway fills in need not look like its value. @param {any} schema @returns {any} */
function withPlaceholders(schema) {
  if (typeof schema !== 'object' || schema === null) return schema;
  if (Array.isArray(schema)) return schema.map(withPlaceholders);
  return Object.fromEntries(
    Object.entries(schema).map(([key, each]) => {
      if (key === 'pattern' && typeof each === 'string') return [key, `${each}|\\$\\{`];
      // Names are never filled in.
      return [key, key === 'propertyNames' ? each : withPlaceholders(each)];
    }),
  );
}
