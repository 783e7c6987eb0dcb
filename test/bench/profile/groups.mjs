// Whose code a frame of a profile is.

/**
 * @typedef {{ functionName: string, url: string, lineNumber: number, columnNumber: number }} CallFrame
 * @typedef {{ group: string, place: string }} Owner
 */

/** What V8 names in parentheses is no function. */
const STATES = new Map([
  ['(garbage collector)', 'garbage collector'],
  ['(program)', 'native: event loop, system calls outside JavaScript'],
]);

/**
 * @param {CallFrame} frame
 * @returns {Owner} the group of the table, and where the function stands
 */
export function ownerOf({ functionName, url, lineNumber }) {
  const state = STATES.get(functionName);
  if (state !== undefined) return { group: state, place: '' };
  const line = lineNumber + 1;
  if (url.startsWith('node:')) return { group: `node ${nodeModule(url)}`, place: `${url}:${line}` };
  const library = /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\/(.*)$/.exec(url);
  if (library !== null) return { group: String(library[1]), place: `${library[1]}/${library[2]}:${line}` };
  const own = /\/dist\/([^/]+)(?:\/(.*))?$/.exec(url);
  if (own !== null) {
    const path = own[2] === undefined ? String(own[1]) : `${own[1]}/${own[2]}`;
    return { group: `patchgate ${own[2] === undefined ? 'ground' : own[1]}`, place: `${path}:${line}` };
  }
  if (url === '') return { group: 'native: called from JavaScript', place: '' };
  return { group: 'other', place: `${url}:${line}` };
}

/** `node:internal/streams/writable` and `node:_http_server` → streams, http. @param {string} url */
function nodeModule(url) {
  const path = url.slice('node:'.length).replace(/^internal\//, '');
  const first = path.split('/')[0] ?? path;
  if (first.startsWith('_http')) return 'http';
  if (first.startsWith('_stream') || first === 'stream') return 'streams';
  if (first === 'stream_base_commons') return 'net';
  return first;
}
