// The prose rules that a program can check, as functions of a file's name and text.
import { extname } from 'node:path';
import { partsOf } from './parts.mjs';

/** @typedef {{ line: number, rule: string, text: string }} Finding */

/** Words that open a sentence without a subject. */
const OPENER = /^(What|Who|Whoever|Whatever|Of|One|Those|That)\b/;

/**
 * Words that are never right here, with what to write. A word that has a standard meaning elsewhere ("exchange a token", "stack
 * trace") is not in the list.
 * @type {readonly (readonly [RegExp, string])[]}
 */
const WORDS = [
  [/\bnobody\b/gi, 'name the subject: no caller, no replica'],
  [/\bwhoever\b/gi, 'name the subject: a caller, an operator'],
  [/\bsomebody\b/gi, 'name the subject: a person, another service'],
  [/\bcan not\b/gi, 'cannot'],
  [/\b(?:is|are|was|were|be|been|being) told\b/gi, 'receives, is notified'],
  [/\bhear(?:s|d)? (?:of|from|nothing)\b/gi, 'is notified, learns'],
  [/\btells? of\b/gi, 'reports, names'],
  [/\b(?:hang|hangs|hung|hanging) up\b|\bhang-?ups?\b/gi, 'client disconnect'],
  [/\bwaiting rooms?\b/gi, 'admission queue'],
  [/\bguests?\b/gi, 'waiter'],
  [/\bcrews?\b/gi, 'name the processes'],
  [/(?<!\bin[- ])\bflights?\b/gi, 'in-flight fetch'],
  [/\bdoors?\b/gi, 'port, listener'],
  [/\brefusals?\b/gi, 'rejection'],
  [/\bforeign (?:use|usage)\b/gi, 'external usage'],
  [/\bledgers?\b/gi, 'quota store'],
  [/\brosters?\b/gi, 'membership'],
  [/\bwishes\b/gi, 'request directives'],
  [/\b(?:an|the|no|each|every|any|its|their|this|first|stale|cached|small|large|whole) answers?\b/gi, 'response'],
];

const DOCUMENT_WIDTH = 100;

/**
 * @param {string} path from the root of the repository
 * @param {() => string} read
 * @returns {Finding[]}
 */
export function findingsIn(path, read) {
  if (!CHECKED.has(extname(path)) && !path.endsWith('Dockerfile')) return [];
  const text = read();
  const parts = partsOf(path, text);
  /** @type {Finding[]} */
  const findings = [];
  for (const { line, kind, text: part } of parts) {
    const opener = kind === 'comment' ? OPENER.exec(part) : null;
    if (opener) findings.push({ line, rule: 'opens without a subject', text: firstWords(part) });
    findings.push(...wordsIn(line, part));
  }
  if (extname(path) === '.md') findings.push(...longLinesIn(text));
  return findings.sort((a, b) => a.line - b.line);
}

const CHECKED = new Set([
  '.ts',
  '.mjs',
  '.js',
  '.lua',
  '.css',
  '.html',
  '.md',
  '.yaml',
  '.yml',
  '.tpl',
  '.txt',
  '.cfg',
]);

/** @param {number} start @param {string} part @returns {Finding[]} */
function wordsIn(start, part) {
  const findings = [];
  for (const [index, text] of part.split('\n').entries()) {
    // Names of code are not prose.
    const prose = text.replaceAll(/`[^`]*`/g, '');
    for (const [word, instead] of WORDS) {
      for (const [found] of prose.matchAll(word)) {
        findings.push({ line: start + index, rule: `"${found}"`, text: instead });
      }
    }
  }
  return findings;
}

/** Tables, headings and code keep their lines, and a link cannot be broken. @param {string} text @returns {Finding[]} */
function longLinesIn(text) {
  const findings = [];
  let fenced = false;
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
    else if (fenced || /^\s*(\||#|<!--|!\[)/.test(line)) continue;
    else if ([...line.replaceAll(/\]\([^)]*\)/g, ']').replaceAll(/https?:\S+/g, '')].length > DOCUMENT_WIDTH) {
      findings.push({ line: index + 1, rule: `longer than ${DOCUMENT_WIDTH} characters`, text: firstWords(line) });
    }
  }
  return findings;
}

/** @param {string} text */
function firstWords(text) {
  const line = text.split('\n', 1)[0] ?? '';
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}
