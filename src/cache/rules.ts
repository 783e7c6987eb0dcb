import { matchesMethod, matchesPath } from '../routing/pattern.ts';
import type { CacheRule, Unless } from './options.ts';

/** The rule of a request; `unless` for one that its rule excludes by a query value; null without a rule. */
export type RuleFinder = (segments: readonly string[], query: string) => CacheRule | 'unless' | null;

/** The first rule that matches counts. A rule for GET covers HEAD, which is served from the stored response to a GET. */
export function createRuleFinder(rules: readonly CacheRule[]): RuleFinder {
  const compiled = rules
    .filter(({ match }) => matchesMethod(match, 'GET'))
    .map((rule) => ({ rule, excludes: rule.store ? excluder(rule.unless) : () => false }));
  return (segments, query) => {
    for (const { rule, excludes } of compiled) {
      if (matchesPath(rule.match.segments, segments)) return query !== '' && excludes(query) ? 'unless' : rule;
    }
    return null;
  };
}

/**
 * Whether a query has one of the values. It reads a query at least as generously as PHP and Laravel do, because a value that goes
 * unnoticed puts a secret into the cache, and one too many costs a request:
 *
 * - `name` is also `name[]`, `name[key]`, and the plural `names`; each of several parameters counts, though PHP takes the last
 * - a value is a list, and each of its members a path: `latestVersion.variables`, or `variables:id,value` with columns
 * - a segment matches as a whole: `variables` is not `variables_count`
 * - of a segment neither case nor separators nor a plural matter: method names of PHP have no case
 */
function excluder(unless: Unless): (query: string) => boolean {
  const wanted = new Map(Object.entries(unless).map(([name, values]) => [stem(name), values.map(plainName)]));
  const names = [...wanted.keys()];
  return (query) => {
    // Parsing is slow. A canonical query has no escaped letters; one with a malformed escape is as the caller sent it.
    if (!names.some((name) => query.includes(name) || query.includes('%'))) return false;
    for (const [name, value] of new URLSearchParams(query)) {
      // PHP ignores spaces before a name, and ends it at a NUL.
      const values = wanted.get(stem(/^ *([^[\0]*)/.exec(name)?.[1] ?? ''));
      if (values !== undefined && value.split(/[,.:]/).some((part) => values.includes(plainName(part)))) return true;
    }
    return false;
  };
}

const stem = (name: string): string => name.replace(/s$/, '');

const plainName = (word: string): string => stem(word.toLowerCase().replace(/[^a-z0-9]/g, ''));
