import {
  type Alias,
  Composer,
  type Document,
  isAlias,
  isCollection,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  Parser,
  type YAMLMap,
} from 'yaml';

/** A mistake in a text. Its message quotes no more of the text than a duplicate key. */
interface Flaw {
  readonly offset: number;
  readonly message: string;
}

export type ReadDocument =
  | {
      readonly document: Document.Parsed;
      readonly lines: LineCounter;
      /** The node that each alias names. */
      readonly targets: ReadonlyMap<Alias, unknown>;
    }
  | { readonly flaws: readonly Flaw[]; readonly lines: LineCounter };

/** The configuration itself is a dozen levels deep. */
const MAX_DEPTH = 50;
/** Nodes that aliases may add: a list of permissions in 10,000 tenants, and not more than fits into memory. */
const MAX_ALIASED_NODES = 200_000;

/**
 * Reads one document of YAML 1.2. All later steps may walk it without a bound of their own: it is neither deeper than
 * {@link MAX_DEPTH} nor circular, and aliases do not multiply it.
 */
export function readDocument(text: string): ReadDocument {
  const lines = new LineCounter();
  // The library compares each key of a map with all keys before it: 50 million comparisons for 10,000 tenants. So duplicates
  // are found below. Tags would make other things of a value than text, numbers, lists and maps.
  const options = { version: '1.2', uniqueKeys: false, resolveKnownTags: false, prettyErrors: false } as const;
  const composer = new Composer({ ...options, lineCounter: lines });
  let documents: Document.Parsed[];
  try {
    documents = [...composer.compose(boundedTokens(text, lines), true, text.length)];
  } catch (error) {
    if (error instanceof TooDeep) return { lines, flaws: [{ offset: error.offset, message: TOO_DEEP }] };
    throw error;
  }
  const [document, second] = documents;
  if (document === undefined) return { lines, flaws: [{ offset: 0, message: 'is not valid YAML' }] };
  const unquoted = document.errors.find(({ pos }) => text.startsWith('${', pos[0] - 1));
  // All that follows an open brace is misread, line after line.
  if (unquoted !== undefined) return { lines, flaws: [{ offset: unquoted.pos[0], message: UNQUOTED }] };
  const misplaced = indentationFlaw(document);
  if (misplaced !== null) return { lines, flaws: [misplaced] };
  const flaws = [
    ...firstOfEachLine(document.errors, lines).map(({ code, message, pos }) => ({
      offset: pos[0],
      message: syntaxMessage(code, message),
    })),
    ...document.warnings.map(({ pos }) => ({
      offset: pos[0],
      message: 'has a tag or a directive, which are not read',
    })),
    ...(second === undefined ? [] : [{ offset: second.range[0], message: 'has more than one document' }]),
  ];
  if (flaws.length > 0) return { lines, flaws };
  const structure = structureOf(document, lines);
  return structure.flaws.length > 0
    ? { lines, flaws: structure.flaws }
    : { document, lines, targets: structure.targets };
}

const UNQUOTED = 'has a placeholder without quotes inside { } or [ ]: write "${NAME}"';
const INDENT =
  'is not indented like the lines above it: options of one map, or items of one list, begin in the same column';
const TOO_FAR = 'has a value, and the line below is indented further: indent both alike';
const TOO_DEEP = `is nested more than ${MAX_DEPTH} levels deep`;

class TooDeep extends Error {
  readonly offset: number;
  constructor(offset: number) {
    super(TOO_DEEP);
    this.offset = offset;
  }
}

/**
 * The composer calls itself for each level, and V8 ends the process where it compiles a regular expression on a stack that is
 * almost full. So the depth is checked before: the lexer and the parser go no further than they are asked for.
 */
function* boundedTokens(text: string, lines: LineCounter) {
  lines.addNewLine(0);
  const parser = new Parser(lines.addNewLine);
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme);
    if (parser.stack.length > MAX_DEPTH) throw new TooDeep(parser.offset);
  }
  yield* parser.end();
}

/** Lines that are indented too little or too far are several errors for the library, which takes them for a key. */
function indentationFlaw({ errors }: Document.Parsed): Flaw | null {
  const block = errors.find(({ code }) => code === 'BLOCK_AS_IMPLICIT_KEY');
  const line = errors.find(({ code }) => code === 'MULTILINE_IMPLICIT_KEY');
  if (block === undefined || line === undefined) return null;
  return { offset: line.pos[0], message: block.message.startsWith('A block sequence') ? INDENT : TOO_FAR };
}

/** A mistake makes the rest of its line a mistake too. */
function firstOfEachLine(errors: Document.Parsed['errors'], lines: LineCounter): Document.Parsed['errors'] {
  const first = new Map<number, (typeof errors)[number]>();
  for (const error of errors) {
    const { line } = lines.linePos(error.pos[0]);
    if (!first.has(line)) first.set(line, error);
  }
  return [...first.values()];
}

/** For the beginning of a message of the library. */
const IN_OWN_WORDS: readonly (readonly [RegExp, string])[] = [
  [/^(?:All mapping items must|Sequence item without)/, INDENT],
  [/^(?:Nested mappings|Block collections) are not allowed/, 'has ": " in a text without quotes: put quotes around it'],
  [/^Alias cannot be an empty/, 'has a * without quotes: write "* /path"'],
  [/^Missing closing .quote/, 'is the end of a text with a quote at its beginning only'],
];

function syntaxMessage(code: string, message: string): string {
  if (code === 'TAB_AS_INDENT') return 'tabs are not allowed as indentation';
  const own = IN_OWN_WORDS.find(([beginning]) => beginning.test(message));
  // The first line names what the parser expected; the others quote the file, which may hold a secret.
  return own?.[1] ?? `is not valid YAML: ${(message.split('\n')[0] ?? '').replace(/:? ?["'`].*$/s, '')}`;
}

/** An anchor, and the number of nodes below it, aliases included; null while they are counted. */
interface Anchored {
  readonly node: unknown;
  size: number | null;
}

/** Finds duplicate keys, keys that are no text, and aliases that lead nowhere, into themselves, or multiply what they name. */
function structureOf(
  document: Document.Parsed,
  lines: LineCounter,
): { flaws: Flaw[]; targets: ReadonlyMap<Alias, unknown> } {
  const flaws: Flaw[] = [];
  const targets = new Map<Alias, unknown>();
  /** The latest of each name. */
  const anchors = new Map<string, Anchored>();
  let aliased = 0;

  const follow = (alias: Alias, offset: number): number => {
    const anchored = anchors.get(alias.source);
    if (anchored === undefined) flaws.push({ offset, message: 'is an alias, and no anchor before it has its name' });
    else if (anchored.size === null) flaws.push({ offset, message: 'is an alias of what it is a part of' });
    targets.set(alias, anchored?.node);
    const size = anchored?.size ?? 0;
    const before = aliased;
    aliased += size;
    if (before <= MAX_ALIASED_NODES && aliased > MAX_ALIASED_NODES) {
      flaws.push({ offset, message: 'aliases multiply this file to more than can be read' });
    }
    return size;
  };
  /** @returns the number of nodes */
  const walk = (node: unknown): number => {
    const offset = offsetOf(node) ?? 0;
    if (isAlias(node)) return follow(node, offset);
    const anchored: Anchored = { node, size: null };
    if ((isScalar(node) || isCollection(node)) && node.anchor !== undefined) anchors.set(node.anchor, anchored);
    let size = 1;
    if (isMap(node)) {
      flaws.push(...keyFlaws(node, offset, lines));
      for (const { key, value } of node.items) size += walk(key) + walk(value);
    } else if (isSeq(node)) {
      for (const item of node.items) size += walk(item);
    }
    anchored.size = size;
    return size;
  };
  walk(document.contents);
  return { flaws: flaws.sort((a, b) => a.offset - b.offset), targets };
}

function keyFlaws({ items }: YAMLMap, at: number, lines: LineCounter): Flaw[] {
  /** The offset of each. */
  const known = new Map<string, number>();
  return items.flatMap(({ key }): Flaw[] => {
    const offset = offsetOf(key) ?? at;
    if (!isScalar(key)) return [{ offset, message: 'has a key that is no plain text' }];
    // `1` and `"1"` are the same property of an object.
    const name = String(key.value);
    const first = known.get(name);
    if (first !== undefined) return [{ offset, message: duplicateKey(name, lines.linePos(first).line) }];
    known.set(name, offset);
    return [];
  });
}

/** Characters. Names are shorter; a longer key is text that went wrong. */
const LONGEST_NAME = 64;

function duplicateKey(name: string, line: number): string {
  const shown = name.length > LONGEST_NAME ? 'a key' : `the key ${JSON.stringify(name)}`;
  return `${shown} is in this map twice, and first on line ${line}: put the lines of both under one`;
}

export function offsetOf(node: unknown): number | null {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return null;
  return Number(node.range[0]);
}
