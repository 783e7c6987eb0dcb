import { createRuleFinder } from '../cache/lookup.ts';
import { splitPath } from '../routing/pattern.ts';
import { cacheRuleDefaults, neverStored } from './patchworks-defaults.ts';
import type { Settings } from './settings.ts';

/** Includes of a flow that bring variables or signed URLs. */
const SECRET_INCLUDES = ['variables', 'webhooks', 'callbacks'];
const MAX_NAMED = 3;

/** Warnings of rules that store secrets or customer data: rules of an operator replace the default ones, which never do. */
export function revealingRules({ cache: { rules } }: Settings): string[] {
  if (rules === cacheRuleDefaults) return [];
  const find = createRuleFinder(rules);
  const revealed = new Map<number, string[]>();
  const requests = [
    ...neverStored.map((path): [string, string] => [path, '']),
    ...SECRET_INCLUDES.map((name): [string, string] => ['/api/v1/flows', `include=${name}`]),
  ];
  for (const [path, query] of requests) {
    const rule = find(splitPath(path), query);
    if (rule === null || rule === 'unless' || !rule.store) continue;
    const index = rules.indexOf(rule);
    revealed.set(index, [...(revealed.get(index) ?? []), query === '' ? path : `${path}?${query}`]);
  }
  return [...revealed].map(([index, paths]) => {
    const more = paths.length > MAX_NAMED ? ` and ${paths.length - MAX_NAMED} more` : '';
    const named = paths.slice(0, MAX_NAMED).join(', ');
    return `cache.rules[${index}] stores ${named}${more}, which have secrets or customer data: use store: false or unless`;
  });
}
