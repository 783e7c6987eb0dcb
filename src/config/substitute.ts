import { dirname, resolve } from 'node:path';
import { type Path, type Problem, type Source, showPath } from './source.ts';

export type ReadFile = (path: string) => Promise<string>;

export interface Substituted {
  readonly value: unknown;
  /** Contents of files that were filled in: kept out of logs wherever they turn up. */
  readonly fromFiles: readonly string[];
  /** Those, and what came from the environment: not to be repeated in a problem. */
  readonly filledIn: readonly string[];
  readonly problems: readonly Problem[];
}

const PLACEHOLDER = /\$\$\{|\$\{([^}]*)\}/g;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Fills in `${NAME}`, `${NAME:-default}` and `${file:/path}` in the texts of a parsed file; `$${` is a plain `${`. After
 * parsing, so that a value can not become structure: a password with a colon stays a password.
 */
export async function substitute(
  source: Source,
  env: Readonly<Record<string, string | undefined>>,
  readFile: ReadFile,
): Promise<Substituted> {
  const problems: Problem[] = [];
  const fromFiles: string[] = [];
  const fromEnvironment: string[] = [];

  const fill = async (inner: string, report: (message: string) => void): Promise<string> => {
    if (inner.startsWith('file:')) {
      const path = resolve(dirname(source.file), inner.slice(5));
      try {
        const content = (await readFile(path)).replace(/\r?\n$/, '');
        fromFiles.push(content);
        return content;
      } catch (error) {
        report(`cannot read the file ${path} (${reasonOf(error)})`);
        return '';
      }
    }
    const [name = '', ...rest] = inner.split(':-');
    if (!NAME.test(name)) {
      report('has a malformed placeholder: write ${NAME}, ${NAME:-default} or ${file:/path}');
      return '';
    }
    const value = env[name];
    if (value !== undefined && (value !== '' || rest.length === 0)) {
      fromEnvironment.push(value);
      return value;
    }
    if (rest.length > 0) return rest.join(':-');
    report(`the environment variable ${name} is not set`);
    return '';
  };

  const walk = async (value: unknown, path: Path): Promise<unknown> => {
    if (typeof value === 'string') {
      const report = (message: string): void => {
        problems.push({ file: source.file, line: source.lineOf(path), path: showPath(path), message });
      };
      return value.includes('${') ? replaceAll(value, (inner) => fill(inner, report)) : value;
    }
    if (Array.isArray(value)) return Promise.all(value.map((item, index) => walk(item, [...path, index])));
    if (typeof value === 'object' && value !== null) {
      const entries = Object.entries(value).map(
        async ([key, item]) => [key, await walk(item, [...path, key])] as const,
      );
      return Object.fromEntries(await Promise.all(entries));
    }
    return value;
  };

  const value = await walk(source.value, []);
  return { value, fromFiles, filledIn: [...fromFiles, ...fromEnvironment], problems };
}

async function replaceAll(text: string, fill: (inner: string) => Promise<string>): Promise<string> {
  let result = '';
  let from = 0;
  for (const match of text.matchAll(PLACEHOLDER)) {
    result += text.slice(from, match.index);
    result += match[1] === undefined ? '${' : await fill(match[1]);
    from = match.index + match[0].length;
  }
  return result + text.slice(from);
}

/** The code alone (`ENOENT`): messages repeat paths, and sometimes content. */
export function reasonOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') {
    const words: Record<string, string> = { ENOENT: 'no such file', EACCES: 'not permitted', EISDIR: 'is a directory' };
    return words[error.code] ?? error.code;
  }
  return 'not readable';
}
