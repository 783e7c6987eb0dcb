import { z } from 'zod';
import { type Path, type Problem, type Source, showPath } from './yaml-source.ts';

type Issue = z.core.$ZodIssue;

/** Turns issues of the schema into problems with a line. No message quotes a value. */
export function problemsOf(issues: readonly Issue[], source: Source, schema: z.ZodType, base: Path = []): Problem[] {
  return issues.flatMap((issue) => {
    const path = [...base, ...issue.path];
    const at = (suffix: Path, message: string): Problem => {
      const full = [...path, ...suffix];
      return { file: source.file, line: source.lineOf(full), path: showPath(full), message };
    };
    switch (issue.code) {
      case 'unrecognized_keys':
        return issue.keys.map((key) => at([key], unknownOption(key, optionsAt(schema, path))));
      case 'invalid_union':
        return problemsOf(closest(issue.errors), source, schema, path);
      case 'invalid_type':
        return [at([], isMissing(source, path) ? 'is required' : typeMessage(issue))];
      case 'invalid_key':
        return [at([], issue.issues[0]?.message ?? 'is not a valid name')];
      default:
        return [at([], issue.message)];
    }
  });
}

/** Picks the form of an option that was probably meant: the form with the fewest errors. */
function closest(errors: readonly (readonly Issue[])[]): readonly Issue[] {
  const weight = (issues: readonly Issue[]): number =>
    issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length * 2 : 1), 0);
  return [...errors].sort((a, b) => weight(a) - weight(b))[0] ?? [];
}

function isMissing(source: Source, path: Path): boolean {
  let value: unknown = source.value;
  for (const step of path) {
    if (typeof value !== 'object' || value === null) return true;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value === undefined;
}

function typeMessage(issue: z.core.$ZodIssueInvalidType): string {
  if (issue.expected === 'object') return 'must be a map of options';
  if (issue.expected === 'array') return 'must be a list';
  return issue.message;
}

/** Twice the longest option. */
const LONGEST_KEY = 64;

function unknownOption(key: string, known: readonly string[]): string {
  // The comparison takes time for each pair of characters, and a long key is no typing error.
  const near = (key.length > LONGEST_KEY ? [] : known)
    .map((option) => ({ option, distance: editDistance(key.toLowerCase(), option.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  if (
    near !== undefined &&
    near.distance <= Math.max(near.option.length < 4 ? 1 : 2, Math.floor(near.option.length / 3))
  ) {
    return `unknown option; did you mean "${near.option}"?`;
  }
  return known.length === 0 ? 'unknown option' : `unknown option; known here: ${known.join(', ')}`;
}

/** The options of a schema at a path, for suggestions. */
function optionsAt(schema: z.ZodType, path: Path): string[] {
  let here: z.ZodType[] = [schema];
  for (const step of path) here = here.flatMap((each) => stepInto(each, step));
  return [
    ...new Set(
      here.flatMap((each) => {
        const plain = unwrap(each);
        return plain instanceof z.ZodUnion
          ? plain.options.flatMap((option) => keysOf(unwrap(option as z.ZodType)))
          : keysOf(plain);
      }),
    ),
  ];
}

function keysOf(schema: z.ZodType): string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

function stepInto(schema: z.ZodType, step: PropertyKey): z.ZodType[] {
  const plain = unwrap(schema);
  if (plain instanceof z.ZodObject) {
    const next = plain.shape[String(step)];
    return next === undefined ? [] : [next as z.ZodType];
  }
  if (plain instanceof z.ZodRecord) return [plain.valueType as z.ZodType];
  if (plain instanceof z.ZodArray) return [plain.element as z.ZodType];
  if (plain instanceof z.ZodUnion) return plain.options.flatMap((option) => stepInto(option as z.ZodType, step));
  return [];
}

/** Removes optionality and defaults from a type. */
export function unwrap(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return unwrap(schema.unwrap() as z.ZodType);
  }
  return schema;
}

/** Levenshtein, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
