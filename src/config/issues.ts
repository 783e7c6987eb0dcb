import { z } from 'zod';
import { nearest } from './nearest.ts';
import type { Path, Problem, Source } from './yaml-source.ts';

type Issue = z.core.$ZodIssue;

/** Turns issues of the schema into problems with a line. No message quotes a value. */
export function problemsOf(issues: readonly Issue[], source: Source, schema: z.ZodType, base: Path = []): Problem[] {
  return issues.flatMap((issue) => {
    const path = [...base, ...issue.path];
    switch (issue.code) {
      case 'unrecognized_keys':
        return issue.keys.map((key) => source.problem([...path, key], unknownOption(key, optionsAt(schema, path))));
      case 'invalid_union':
        return problemsOf(closest(issue.errors), source, schema, path);
      case 'invalid_type':
        return [source.problem(path, typeMessage(issue, valueAt(source, path)))];
      case 'invalid_key':
        return [source.problem(path, issue.issues[0]?.message ?? 'is not a valid name')];
      default:
        return [source.problem(path, issue.message)];
    }
  });
}

/** Picks the form of an option that was probably meant: the form with the fewest errors. */
function closest(errors: readonly (readonly Issue[])[]): readonly Issue[] {
  const weight = (issues: readonly Issue[]): number =>
    issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length * 2 : 1), 0);
  return [...errors].sort((a, b) => weight(a) - weight(b))[0] ?? [];
}

/** Undefined if there is none. */
function valueAt(source: Source, path: Path): unknown {
  let value: unknown = source.value;
  for (const step of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value;
}

function typeMessage({ expected, message }: z.core.$ZodIssueInvalidType, value: unknown): string {
  if (value === undefined) return 'is required';
  const wanted = expected === 'object' ? 'must be a map of options' : expected === 'array' ? 'must be a list' : message;
  // The lines that should be below it are read as its neighbours.
  const isEmpty = value === null && ['object', 'record', 'array'].includes(expected);
  return isEmpty ? `${wanted}, and is empty: indent the lines that belong to it further` : wanted;
}

function unknownOption(key: string, known: readonly string[]): string {
  const near = nearest(key, known);
  if (near !== null) return `unknown option; did you mean "${near}"?`;
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

/** Removes optionality, defaults and what is made of the value from a type. */
export function unwrap(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return unwrap(schema.unwrap() as z.ZodType);
  }
  if (schema instanceof z.ZodPipe) return unwrap(schema.in as z.ZodType);
  return schema;
}
