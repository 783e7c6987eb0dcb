import { type Document, isMap, isPair, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';

/** What is wrong, where, in words that never repeat a value. */
export interface Problem {
  readonly file: string;
  readonly line: number | null;
  /** `limits.body`; '' for the file as a whole. */
  readonly path: string;
  readonly message: string;
}

export type Path = readonly PropertyKey[];

/** One parsed file, which still knows on which line everything stands. */
export interface Source {
  readonly file: string;
  /** Plain data, before substitution. */
  readonly value: unknown;
  lineOf(path: Path): number | null;
}

/** YAML 1.2: no merge keys, no `yes` for true; JSON is YAML. Duplicate keys are errors. */
export function parseSource(file: string, text: string): { source: Source } | { problems: Problem[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { version: '1.2', uniqueKeys: true, lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => ({
      file,
      line: lines.linePos(error.pos[0]).line,
      path: '',
      message: syntaxMessage(error.code, error.message),
    }));
    return { problems };
  }
  let value: unknown;
  try {
    // Aliases are counted: a few lines of YAML can otherwise stand for gigabytes.
    value = document.toJS({ maxAliasCount: 100 });
  } catch {
    return { problems: [{ file, line: null, path: '', message: 'has too many aliases' }] };
  }
  return { source: { file, value, lineOf: (path) => lineOf(document, lines, path) } };
}

function syntaxMessage(code: string, message: string): string {
  if (code === 'DUPLICATE_KEY') return 'the same key stands twice in one map';
  if (code === 'TAB_AS_INDENT') return 'tabs are not allowed as indentation';
  // The library's first line names what it expected; the lines after it quote the file, and the file may hold a secret.
  return `is no valid YAML: ${(message.split('\n')[0] ?? '').replace(/:? ?["'`].*$/, '')}`;
}

/** The line of the deepest part of a path that is there. */
function lineOf(document: Document, lines: LineCounter, path: Path): number | null {
  let node: unknown = document.contents;
  let offset: number | null = offsetOf(node);
  for (const step of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(step));
      if (!isPair(pair)) break;
      offset = offsetOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = offsetOf(node) ?? offset;
    } else break;
  }
  return offset === null ? null : lines.linePos(offset).line;
}

function offsetOf(node: unknown): number | null {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return null;
  return Number(node.range[0]);
}

export function showPath(path: Path): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index > 0 ? '.' : ''}${String(step)}`))
    .join('');
}
