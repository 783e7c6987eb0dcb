import { isDeepStrictEqual } from 'node:util';
import { type Document, isAlias, isCollection, isMap, isScalar, isSeq, stringify, YAMLMap, YAMLSeq } from 'yaml';
import { readDocument } from './yaml-document.ts';

/** A changed text, or why there is none. */
export type Edited = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly reason: string };

export interface NewTenant {
  readonly name: string;
  /** Needed where there are several accounts. */
  readonly accounts?: readonly string[];
  readonly allow?: readonly string[];
  /** Requests a minute. */
  readonly rate?: number;
}

export interface NewKey {
  readonly id: string;
  readonly sha256: string;
  readonly expires?: string;
}

/** The reason of an edit that cannot be made. */
class Refused extends Error {}

/** @param text of the file with the tenants, '' for a new one */
export function addTenant(text: string, { name, accounts, allow, rate }: NewTenant): Edited {
  return edit(text, (document) => {
    const tenants = tenantsOf(document);
    if (tenants.has(name)) throw new Refused(`there is a tenant "${name}" already`);
    const quota = rate === undefined ? undefined : document.createNode({ rate }, { flow: true });
    const [account, ...others] = accounts ?? [];
    const own = others.length === 0 ? account && { account } : { accounts };
    const options = { ...own, ...(allow && { allow }), ...(quota && { quota }) };
    tenants.add(document.createPair(name, options));
  });
}

export function addKey(text: string, tenant: string, key: NewKey): Edited {
  return edit(text, (document) => {
    const options = tenantOf(document, tenant);
    const keys = listIn(options, 'keys', tenant) ?? put(options, 'keys', new YAMLSeq());
    if (idsIn(keys).includes(key.id)) throw new Refused(`the tenant "${tenant}" has a key "${key.id}" already`);
    keys.add(document.createNode(key, { flow: true }));
  });
}

export function removeKey(text: string, tenant: string, id: string): Edited {
  return edit(text, (document) => {
    const options = tenantOf(document, tenant);
    const keys = listIn(options, 'keys', tenant);
    const ids = idsIn(keys);
    const index = ids.indexOf(id);
    if (keys === null || index === -1) {
      const known = ids.length === 0 ? 'it has none' : `it has ${ids.join(', ')}`;
      throw new Refused(`the tenant "${tenant}" has no key "${id}"; ${known}`);
    }
    keys.items.splice(index, 1);
  });
}

/** Ids of the keys and identities of a tenant; none for an unknown one, or where the text cannot be read. */
export function idsOf(text: string, tenant: string): string[] {
  const read = readDocument(text);
  if ('flaws' in read) return [];
  const options = read.document.getIn(['tenants', tenant]);
  if (!isMap(options)) return [];
  return ['keys', 'identities'].flatMap((name) => idsIn(options.get(name)));
}

/** YAML that adds a key to a tenant; for people to copy. */
export function keySnippet(tenant: string, key: NewKey): string {
  const edited = addKey(stringify({ tenants: { [tenant]: {} } }), tenant, key);
  return edited.ok ? edited.text : '';
}

/** The options of one tenant alone, as YAML. */
export function tenantSnippet(text: string, tenant: string): string {
  const read = readDocument(text);
  if ('flaws' in read) return '';
  const { tenants } = read.document.toJS({ maxAliasCount: -1 }) as { tenants: Record<string, unknown> };
  return stringify({ tenants: { [tenant]: tenants[tenant] } }, { lineWidth: 0 });
}

function edit(text: string, change: (document: Document) => void): Edited {
  const read = readDocument(text === '' ? '{}' : text);
  if ('flaws' in read) {
    const [flaw] = read.flaws;
    return { ok: false, reason: `line ${read.lines.linePos(flaw?.offset ?? 0).line} ${flaw?.message}` };
  }
  const { document } = read;
  const style = { lineWidth: 0, ...indentationOf(text) };
  const before = document.toString(style);
  try {
    change(document);
  } catch (error) {
    if (error instanceof Refused) return { ok: false, reason: error.message };
    throw error;
  }
  return { ok: true, text: withFewChanges(text, before, document.toString(style)) };
}

/**
 * The library writes a document in its own spacing. So only the lines in which its texts differ are put into the original: the
 * others stay as they are, byte for byte. Where that would mean something else, the library's text is the result.
 */
function withFewChanges(original: string, before: string, after: string): string {
  if (withoutSpace(original) !== withoutSpace(before)) return after;
  const [old, next] = [before.split('\n'), after.split('\n')];
  const shorter = Math.min(old.length, next.length);
  let first = 0;
  while (first < shorter && old[first] === next[first]) first += 1;
  let last = 0;
  while (last < shorter - first && old.at(-1 - last) === next.at(-1 - last)) last += 1;
  const charsOf = (lines: readonly string[]): number => withoutSpace(lines.join('')).length;
  const kept = charsOf(old.slice(0, first));
  const start = lineAfter(original, kept);
  const end = lineAfter(original, kept + charsOf(old.slice(first, old.length - last)));
  const newline = original.includes('\r\n') ? '\r\n' : '\n';
  const changed = next.slice(first, next.length - last).map((line) => line + newline);
  const text = `${original.slice(0, start)}${changed.join('')}${original.slice(end)}`;
  return isDeepStrictEqual(contentOf(text), contentOf(after)) ? text : after;
}

function withoutSpace(text: string): string {
  return text.replace(/\s/g, '');
}

/** Index of the line behind so many characters that are no space. */
function lineAfter(text: string, chars: number): number {
  let at = 0;
  for (let left = chars; left > 0; at++) if (/\S/.test(text.charAt(at))) left -= 1;
  const newline = chars === 0 ? -1 : text.indexOf('\n', at);
  return newline === -1 ? at : newline + 1;
}

/** Values and comments. */
function contentOf(text: string): unknown {
  const read = readDocument(text);
  if ('flaws' in read) return read.flaws;
  return [read.document.toJS({ maxAliasCount: -1 }), text.match(/#.*/g)];
}

/** Spaces of the first indented line, and whether lists are indented below their key. */
function indentationOf(text: string): { indent: number; indentSeq: boolean } {
  const indent = /^( +)[^\s#-]/m.exec(text)?.[1]?.length ?? 2;
  return { indent, indentSeq: !/^( *)[^\s#-][^\n]*:[ \t]*\r?\n\1- /m.test(text) };
}

function tenantsOf(document: Document): YAMLMap {
  if (document.contents === null) document.contents = document.createNode({});
  const root = document.contents;
  if (!isMap(root)) throw new Refused('it is no map of options');
  // An empty flow map, as of a new file, would keep all that is added on one line.
  if (root.items.length === 0) root.flow = false;
  return mapIn(root, 'tenants', 'tenants') ?? put(root, 'tenants', new YAMLMap());
}

function tenantOf(document: Document, name: string): YAMLMap {
  const tenants = tenantsOf(document);
  if (!tenants.has(name))
    throw new Refused(`there is no tenant "${name}": patchgate tenant add ${name} --write adds it`);
  return mapIn(tenants, name, `tenants.${name}`) ?? put(tenants, name, new YAMLMap());
}

/** Comments stay: they belong to the empty value that is replaced. */
function put<N extends YAMLMap | YAMLSeq>(parent: YAMLMap, name: string, made: N): N {
  const empty = parent.get(name, true) as unknown;
  if (isScalar(empty)) Object.assign(made, { comment: empty.comment, commentBefore: empty.commentBefore });
  parent.set(name, made);
  return made;
}

function mapIn(parent: YAMLMap, name: string, path: string): YAMLMap | null {
  const node = childOf(parent, name);
  if (node !== null && !isMap(node)) throw new Refused(notOwn(node, path, 'map'));
  return node;
}

function listIn(parent: YAMLMap, name: string, tenant: string): YAMLSeq | null {
  const node = childOf(parent, name);
  if (node !== null && !isSeq(node)) throw new Refused(notOwn(node, `tenants.${tenant}.${name}`, 'list'));
  return node;
}

/** Null: it is empty or not there. An empty flow collection would keep all that is added on one line. */
function childOf(parent: YAMLMap, name: string): unknown {
  const node = parent.get(name, true) as unknown;
  if (node === undefined || (isScalar(node) && node.value === null)) return null;
  if (isCollection(node) && node.items.length === 0) node.flow = false;
  return node;
}

function notOwn(node: unknown, path: string, kind: string): string {
  if (isAlias(node)) return `${path} is an alias, which other options may share: edit the file by hand`;
  return `${path} is no ${kind}: correct the file first`;
}

function idsIn(list: unknown): string[] {
  if (!isSeq(list)) return [];
  return list.items.flatMap((item) =>
    isMap(item) && typeof item.get('id') === 'string' ? [String(item.get('id'))] : [],
  );
}
