// Takes the prose out of a file: its comments, and the texts that people read.
import { extname } from 'node:path';

/** @typedef {{ line: number, kind: 'comment' | 'text', text: string }} Part a text of several lines begins at `line` */

/** How a line comment begins, by file type. */
const LINE_COMMENT = /** @type {Record<string, string>} */ ({ '.ts': '//', '.mjs': '//', '.js': '//', '.lua': '--' });
/** Directives of tools, which are not prose. */
const DIRECTIVE = /^(biome-ignore|@ts-|@typedef|@type\b|!\/|yaml-language-server)/;

/**
 * Line by line, because the code is formatted: a comment has its own lines, and a string seldom spans two.
 * @param {string} path
 * @param {string} text
 * @returns {Part[]}
 */
export function partsOf(path, text) {
  const lines = text.split('\n');
  const type = extname(path);
  const marker = LINE_COMMENT[type];
  if (marker !== undefined) return ofCode(lines, marker);
  if (type === '.md') return ofMarkdown(lines);
  if (type === '.css' || type === '.html' || type === '.txt') return [{ line: 1, kind: 'text', text }];
  return ofHashComments(lines);
}

/** @param {string[]} lines @param {string} marker @returns {Part[]} */
function ofCode(lines, marker) {
  /** @type {Part[]} */
  const parts = [];
  for (let i = 0; i < lines.length; i += 1) {
    const line = (lines[i] ?? '').trim();
    const block = marker === '//' && line.startsWith('/*');
    if (!block && !line.startsWith(marker)) {
      parts.push(...stringsIn(line, i + 1));
      continue;
    }
    const start = i;
    const comment = [line];
    const goesOn = () => {
      const next = (lines[i + 1] ?? '').trim();
      return block ? !(lines[i] ?? '').includes('*/') && i + 1 < lines.length : next.startsWith(marker);
    };
    while (goesOn()) {
      i += 1;
      comment.push((lines[i] ?? '').trim());
    }
    addComment(
      parts,
      start + 1,
      comment.map((each) => stripped(each, block ? null : marker)),
    );
  }
  return parts;
}

/** @param {string} line @param {string | null} marker null: of a block comment */
const stripped = (line, marker) =>
  marker === null
    ? line.replace(/^\/\*+\s?|^\*(?!\/)\s?/, '').replace(/\s*\*+\/.*$/, '')
    : line.replace(marker, '').trimStart();

/** @param {Part[]} parts @param {number} line @param {string[]} comment */
function addComment(parts, line, comment) {
  // A block comment may begin on its second line.
  const skipped = comment[0] === '' ? 1 : 0;
  const text = comment.slice(skipped).join('\n');
  if (!DIRECTIVE.test(text)) parts.push({ line: line + skipped, kind: 'comment', text });
}

/** Strings with a space in them: messages, names of tests, descriptions. @param {string} line @param {number} number */
function stringsIn(line, number) {
  /** @type {Part[]} */
  const parts = [];
  for (const [literal] of line.matchAll(/'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`/g)) {
    const text = literal.slice(1, -1).replaceAll(/\\`[^`]*\\`/g, '');
    if (text.includes(' ')) parts.push({ line: number, kind: 'text', text });
  }
  return parts;
}

/** All but code. @param {string[]} lines @returns {Part[]} */
function ofMarkdown(lines) {
  let fenced = false;
  return lines.flatMap((text, index) => {
    const fence = /^\s*(```|~~~)/.test(text);
    if (fence) fenced = !fenced;
    return fence || fenced ? [] : [{ line: index + 1, kind: /** @type {const} */ ('text'), text }];
  });
}

/** YAML, templates, shell: comments by themselves, all else as text. @param {string[]} lines @returns {Part[]} */
function ofHashComments(lines) {
  /** @type {Part[]} */
  const parts = [];
  for (let i = 0; i < lines.length; i += 1) {
    const isComment = (/** @type {number} */ at) => (lines[at] ?? '').trim().startsWith('#');
    if (!isComment(i)) {
      parts.push({ line: i + 1, kind: 'text', text: lines[i] ?? '' });
      continue;
    }
    const start = i;
    const comment = [];
    for (; isComment(i); i += 1) comment.push((lines[i] ?? '').trim().replace(/^#+\s?/, ''));
    i -= 1;
    addComment(parts, start + 1, comment);
  }
  return parts;
}
