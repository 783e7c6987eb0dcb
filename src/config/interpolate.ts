import { dirname, resolve } from 'node:path';
import { createStringReplacer } from '../telemetry/redact.ts';
import { type ReadFile, reasonOf } from './read-file.ts';
import type { Path, Problem, Source } from './yaml-source.ts';

export interface Interpolated {
  readonly value: unknown;
  /** Contents of inserted files; logs redact them. */
  readonly fromFiles: readonly string[];
  /** Contents of files and values of environment variables; a problem must not quote them. */
  readonly inserted: readonly string[];
  readonly problems: readonly Problem[];
}

const PLACEHOLDER = /\$\$\{|\$\{([^}]*)\}/g;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Replaces `${NAME}`, `${NAME:-default}` and `${file:/path}` in the texts of a parsed file; `$${` is a plain `${`. It runs
 * after parsing, so that a value cannot become structure: a password with a colon stays a password.
 */
export async function interpolate(
  source: Source,
  env: Readonly<Record<string, string | undefined>>,
  readFile: ReadFile,
): Promise<Interpolated> {
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
      const report = (message: string): void => void problems.push(source.problem(path, message));
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
  return { value, fromFiles, inserted: [...fromFiles, ...fromEnvironment], problems };
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

const MASK = '[filled in]';
/** Characters. Shorter values are not secrets; masking them would break ordinary words. */
const MIN_MASKED_LENGTH = 6;

/**
 * Masks values from the environment and from files in problems: a misplaced secret is reported by its place only. Text of the
 * configuration itself may be quoted, so that an operator finds a typing error.
 */
export function withoutInserted(problems: readonly Problem[], values: readonly string[]): Problem[] {
  const mask = createStringReplacer(
    values
      .filter((value) => value.length >= MIN_MASKED_LENGTH)
      .flatMap((value) => [value, JSON.stringify(value).slice(1, -1)]),
    MASK,
  );
  return problems.map((each) => ({
    ...{ ...each, file: mask(each.file), path: mask(each.path), message: mask(each.message) },
  }));
}
