import {
  type Document,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Pair,
  parseDocument,
  visit,
  type YAMLMap,
} from 'yaml';

/** An error in the configuration. No field quotes a value. */
export interface Problem {
  readonly file: string;
  readonly line: number | null;
  /** `limits.body`; '' for the file as a whole. */
  readonly path: string;
  readonly message: string;
}

export type Path = readonly PropertyKey[];

/** A parsed file that knows the line of each option. */
export interface Source {
  readonly file: string;
  /** Plain data, before interpolation. */
  readonly value: unknown;
  lineOf(path: Path): number | null;
}

/** YAML 1.2: no merge keys, no `yes` for true; JSON is YAML. Duplicate keys are errors. */
export function parseYaml(file: string, text: string): { source: Source } | { problems: Problem[] } {
  const lines = new LineCounter();
  // The parser compares each key of a map with all keys before it: 50 million comparisons for 10,000 tenants. So duplicates
  // are found below.
  const document = parseDocument(text, { version: '1.2', uniqueKeys: false, lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const problems = document.errors.map((error) => ({
      file,
      line: lines.linePos(error.pos[0]).line,
      path: '',
      message: syntaxMessage(error.code, error.message),
    }));
    return { problems };
  }
  const duplicates = duplicateKeys(document).map((offset) => ({
    ...{ file, line: lines.linePos(offset).line, path: '', message: DUPLICATE },
  }));
  if (duplicates.length > 0) return { problems: duplicates };
  let value: unknown;
  try {
    // Without a limit on aliases, a few lines of YAML can expand to gigabytes.
    value = document.toJS({ maxAliasCount: 100 });
  } catch {
    return { problems: [{ file, line: null, path: '', message: 'has too many aliases' }] };
  }
  const pairs = new WeakMap<YAMLMap, ReadonlyMap<string, Pair>>();
  return { source: { file, value, lineOf: (path) => lineOf(document, lines, pairs, path) } };
}

const DUPLICATE = 'the same key is in this map twice';

/** Offsets of keys that their map has already. */
function duplicateKeys(document: Document): number[] {
  const offsets: number[] = [];
  visit(document, {
    Map(_, { items }) {
      const known = new Set<string>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        // `1` and `"1"` are the same property of an object.
        const name = String(key.value);
        if (known.has(name)) offsets.push(offsetOf(key) ?? 0);
        known.add(name);
      }
    },
  });
  return offsets.sort((a, b) => a - b);
}

function syntaxMessage(code: string, message: string): string {
  if (code === 'TAB_AS_INDENT') return 'tabs are not allowed as indentation';
  // The first line names what the parser expected; the others quote the file, which may hold a secret.
  return `is not valid YAML: ${(message.split('\n')[0] ?? '').replace(/:? ?["'`].*$/, '')}`;
}

/**
 * The line of the deepest existing part of a path.
 *
 * @param pairs an index of maps that earlier calls built: each of 10,000 tenants may have a problem
 */
function lineOf(
  document: Document,
  lines: LineCounter,
  pairs: WeakMap<YAMLMap, ReadonlyMap<string, Pair>>,
  path: Path,
): number | null {
  let node: unknown = document.contents;
  let offset: number | null = offsetOf(node);
  for (const step of path) {
    if (isMap(node)) {
      const known = pairs.get(node) ?? pairsOf(node);
      pairs.set(node, known);
      const pair = known.get(String(step));
      if (pair === undefined) break;
      offset = offsetOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = offsetOf(node) ?? offset;
    } else break;
  }
  return offset === null ? null : lines.linePos(offset).line;
}

function pairsOf({ items }: YAMLMap): ReadonlyMap<string, Pair> {
  return new Map(items.flatMap((pair) => (isScalar(pair.key) ? [[String(pair.key.value), pair] as const] : [])));
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
