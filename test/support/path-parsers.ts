// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it looks for.
const CONTROLS = /[\0-\x1f\x7f]/g;

/** A request target as servers that differ from each other would split it into segments. */
export type PathParser = (path: string) => string[];

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Empty segments merged, dots resolved. */
function resolved(segments: readonly string[]): string[] {
  const path: string[] = [];
  for (const segment of segments) {
    if (segment === '..') path.pop();
    else if (segment !== '.' && segment !== '') path.push(segment);
  }
  return path;
}

export const pathParsers: Readonly<Record<string, PathParser>> = {
  'splits, then decodes': (path) => path.split('/').slice(1).map(decoded),
  'decodes, splits, resolves dots (nginx)': (path) => resolved(decoded(path).split('/')),
  'resolves dots, also escaped ones, then decodes (WHATWG)': (path) =>
    resolved(new URL(`http://host${path}`).pathname.split('/')).map(decoded),
  'decodes twice': (path) => resolved(decoded(decoded(path)).split('/')),
  'cuts path parameters off before it resolves dots (Tomcat)': (path) =>
    resolved(path.split('/').map((segment) => decoded(segment.replace(/;.*/, '')))),
  'cuts path parameters off after decoding': (path) =>
    resolved(
      decoded(path)
        .split('/')
        .map((segment) => segment.replace(/;.*/, '')),
    ),
  'takes backslashes for slashes (IIS)': (path) => resolved(decoded(path).split(/[/\\]/)),
  'ends at a NUL (C)': (path) => resolved((decoded(path).split('\0')[0] ?? '').split('/')),
  'drops control characters and spaces at the ends': (path) =>
    resolved(
      decoded(path)
        .split('/')
        .map((segment) => segment.replace(CONTROLS, '').trim()),
    ),
};
