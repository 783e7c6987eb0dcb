import { secretPattern } from './redact-forms.ts';

/** Replaces every known secret in a text, whatever encoding it has got into. */
export interface Redactor {
  /** A secret of the configuration: kept for good, however short. An empty one is no secret. */
  add(secret: string): void;
  /** A token that will be replaced: the latest few are kept. */
  addPassing(secret: string): void;
  /** Returns the same string where nothing matches; costs well below a microsecond a line then. */
  apply(text: string): string;
}

export const MASK = '[secret]';
/** Tokens of the latest logins, some generations of each; older ones have expired. */
const PASSING = 32;
/** A value made at run time that is shorter is no token, and would mask ordinary words. */
const SHORTEST_PASSING = 6;

export function createRedactor(): Redactor {
  const kept = new Set<string>();
  // Insertion order is age: the oldest comes first.
  const passing = new Set<string>();
  // Compiled when it is needed, not when a secret is added: a load adds many.
  let pattern: RegExp | null | undefined = null;

  return {
    add(secret) {
      if (secret === '' || kept.has(secret)) return;
      kept.add(secret);
      pattern = undefined;
    },
    addPassing(secret) {
      if (secret.length < SHORTEST_PASSING) return;
      const known = passing.delete(secret);
      passing.add(secret);
      if (known) return;
      if (passing.size > PASSING) passing.delete(passing.values().next().value as string);
      pattern = undefined;
    },
    apply(text) {
      if (pattern === undefined) pattern = secretPattern([...kept, ...passing]);
      return pattern === null ? text : text.replace(pattern, MASK);
    },
  };
}
