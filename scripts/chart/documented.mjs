// Reads helm/patchgate/values.yaml with the comments above its values, which are their documentation.
import { isMap, isScalar, parseDocument } from 'yaml';

/**
 * A value of the chart.
 * @typedef {{ path: string, description: string, fallback: unknown }} Value
 */

/**
 * All documented values, in the order of the file. A map is one value when nothing in it has a comment of its own.
 * @param {string} text
 * @returns {Value[]}
 */
export function documentedValues(text) {
  const document = parseDocument(text);
  if (document.errors.length > 0) throw new Error(`values.yaml: ${document.errors[0]?.message}`);
  return valuesBelow(document.contents, '');
}

/** @param {unknown} node @param {string} parent @returns {Value[]} */
function valuesBelow(node, parent) {
  if (!isMap(node)) return [];
  return node.items.flatMap((pair, index) => {
    const key = isScalar(pair.key) ? pair.key : null;
    if (key === null) throw new Error(`values.yaml: ${parent} has a key that is no text`);
    const path = parent === '' ? String(key.value) : `${parent}.${key.value}`;
    // The parser hands the comment above the first key of a map to the map.
    const description = prose(key.commentBefore ?? (index === 0 && parent !== '' ? node.commentBefore : null));
    const { value } = pair;
    if (isMap(value) && hasComments(value)) return valuesBelow(value, path);
    if (description === '') throw new Error(`values.yaml: ${path} has no comment above it that documents it`);
    const fallback = /** @type {{ toJSON(): unknown }} */ (value).toJSON();
    return [{ path, description, fallback }];
  });
}

/** @param {import('yaml').YAMLMap} map @returns {boolean} */
function hasComments(map) {
  if (map.commentBefore) return true;
  return map.items.some(({ key, value }) => {
    if (isScalar(key) && key.commentBefore) return true;
    return isMap(value) && hasComments(value);
  });
}

/** @param {string | null | undefined} comment */
function prose(comment) {
  return (comment ?? '')
    .split('\n')
    .map((line) => line.trim())
    .join(' ')
    .trim();
}
