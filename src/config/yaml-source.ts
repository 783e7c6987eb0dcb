import { isAlias, isMap, isScalar, isSeq, type Pair, type YAMLMap } from 'yaml';
import { offsetOf, type ReadDocument, readDocument } from './yaml-document.ts';

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
  /** With the line of the deepest part of the path that is there. */
  problem(path: Path, message: string): Problem;
}

/** YAML 1.2: no merge keys, no `yes` for true; JSON is YAML. Duplicate keys are errors. */
export function parseYaml(file: string, text: string): { source: Source } | { problems: Problem[] } {
  const read = readDocument(text);
  const { lines } = read;
  if ('flaws' in read) {
    return {
      problems: read.flaws.map(({ offset, message }) => ({
        ...{ file, line: lines.linePos(offset).line, path: '', message },
      })),
    };
  }
  // The limit of the library counts an alias of a text as an attack from the hundredth on.
  const value: unknown = read.document.toJS({ maxAliasCount: -1 });
  const pairs = new WeakMap<YAMLMap, ReadonlyMap<string, Pair>>();
  const problem = (path: Path, message: string): Problem => {
    return { file, line: lineOf(read, pairs, path), path: showPath(path), message };
  };
  return { source: { file, value, problem } };
}

/** @param pairs an index of maps that earlier calls built: each of 10,000 tenants may have a problem */
function lineOf(
  { document, lines, targets }: Exclude<ReadDocument, { flaws: unknown }>,
  pairs: WeakMap<YAMLMap, ReadonlyMap<string, Pair>>,
  path: Path,
): number | null {
  let node: unknown = document.contents;
  let offset: number | null = offsetOf(node);
  for (const step of path) {
    if (isAlias(node)) node = targets.get(node);
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

export function showPath(path: Path): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index > 0 ? '.' : ''}${String(step)}`))
    .join('');
}
