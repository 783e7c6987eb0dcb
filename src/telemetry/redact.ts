import { createStringReplacer, type ReplaceStrings } from '../string-search.ts';
import { MASK } from './redact-fields.ts';
import { type SecretForms, secretForms } from './redact-forms.ts';

/** Replaces every known secret in a text, whatever encoding it has got into. */
export interface Redactor {
  /** A secret of the configuration: kept for good, however short. An empty one is no secret. */
  add(secret: string): void;
  /** A token that will be replaced: the latest few are kept. */
  addPassing(secret: string): void;
  /** Returns the same string where nothing matches. Never throws: a text that cannot be searched is withheld. */
  apply(text: string): string;
}

/** In the place of a text that may hold a secret. */
const WITHHELD = '[withheld: the search for secrets failed]';
/** Tokens of the latest logins, some generations of each; older ones have expired. */
const PASSING = 32;
/** A value made at run time that is shorter is no token, and would mask ordinary words. */
const SHORTEST_PASSING = 6;

/** @param replacerOf searches for all forms of all secrets */
export function createRedactor(replacerOf: (forms: readonly SecretForms[]) => ReplaceStrings = searchFor): Redactor {
  /** The forms of a secret; null until they are needed. */
  const kept = new Map<string, SecretForms | null>();
  // Insertion order is age: the oldest comes first.
  const passing = new Map<string, SecretForms | null>();
  // Made when it is needed, not when a secret is added: a load adds many.
  let replace: ReplaceStrings | null = (text) => text;

  const formsOf = (secrets: Map<string, SecretForms | null>): SecretForms[] =>
    [...secrets].map(([secret, known]) => {
      const forms = known ?? secretForms(secret);
      secrets.set(secret, forms);
      return forms;
    });
  return {
    add(secret) {
      if (secret === '' || kept.has(secret)) return;
      kept.set(secret, null);
      replace = null;
    },
    addPassing(secret) {
      if (secret.length < SHORTEST_PASSING) return;
      const known = passing.get(secret);
      passing.delete(secret);
      passing.set(secret, known ?? null);
      if (known !== undefined) return;
      if (passing.size > PASSING) passing.delete(passing.keys().next().value as string);
      replace = null;
    },
    apply(text) {
      try {
        replace ??= replacerOf([...formsOf(kept), ...formsOf(passing)]);
        return replace(text);
      } catch {
        return WITHHELD;
      }
    },
  };
}

function searchFor(forms: readonly SecretForms[]): ReplaceStrings {
  const anywhere = createStringReplacer(
    forms.flatMap((each) => each.anywhere),
    MASK,
  );
  const alone = createStringReplacer(
    forms.flatMap((each) => each.alone),
    MASK,
    (text, from, to) => !LETTER_OR_DIGIT.test(text.charAt(from - 1)) && !LETTER_OR_DIGIT.test(text.charAt(to)),
  );
  return (text) => alone(anywhere(text));
}

const LETTER_OR_DIGIT = /^[A-Za-z0-9]/;
