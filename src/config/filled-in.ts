import type { Problem } from './source.ts';

const MASK = '[filled in]';
/** Shorter values are no secrets, and would make gaps in ordinary words. */
const SHORTEST = 6;

/**
 * A problem in which no value stands that came from the environment or from a file: a secret in the wrong place is told of by
 * its place. What is written in the configuration itself may be repeated, so that a typing error can be found.
 */
export function withoutFilledIn(problem: Problem, values: readonly string[]): Problem {
  let { file, path, message } = problem;
  for (const value of values) {
    if (value.length < SHORTEST) continue;
    for (const form of [value, JSON.stringify(value).slice(1, -1)]) {
      file = file.replaceAll(form, MASK);
      path = path.replaceAll(form, MASK);
      message = message.replaceAll(form, MASK);
    }
  }
  return { ...problem, file, path, message };
}
