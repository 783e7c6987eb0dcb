import { describe, expect, test } from 'vitest';
import { rule } from '../../test/support/cache-harness.ts';
import { splitPath } from '../routing/pattern.ts';
import { canonicalQuery } from '../routing/query.ts';
import { createRuleFinder } from './lookup.ts';

const flows = rule('GET /flows/**', 30_000, { unless: { include: ['variables', 'flowRuns'], Fields: ['secret'] } });
const find = createRuleFinder([rule('POST /flows', false), flows, rule('GET /**', false)]);
const ask = (query: string) => find(splitPath('/flows'), canonicalQuery(query));

describe('a query value under unless is recognised', () => {
  test.each([
    ['alone', 'include=variables'],
    ['in a list', 'page=1&include=labels,variables&sort=-id'],
    ['in a list with spaces', 'include=labels,%20variables+'],
    ['in a list with escaped commas', 'include=labels%2Cvariables%2cversions'],
    ['in a parameter that is repeated, whichever is last', 'include=variables&include=labels'],
    ['in a parameter with brackets', 'include[]=labels&include[]=variables'],
    ['in a parameter with escaped brackets', 'include%5B%5D=labels&include%5b%5d=variables'],
    ['in a parameter with keys', 'include[0]=labels&include[a][b]=variables'],
    ['in a parameter whose bracket is open', 'include[=variables'],
    ['in the plural of the parameter', 'includes=variables'],
    ['below another name', 'include=currentVersion.variables'],
    ['above another name', 'include=variables.flow'],
    ['between others, escaped', 'include=latestVersion%2Evariables%2Eflow'],
    ['with columns', 'include=currentVersion.variables:id,key'],
    ['with escaped letters', '%69nclude=v%61riables'],
    ['with escaped letters beside a malformed escape', 'a=%zz&%69nclude=v%61riables'],
    ['in other cases', 'include=Variables,VARIABLES'],
    ['as one of it', 'include=variable'],
    ['with other separators', 'include=flow_runs'],
    ['with a dash', 'include=flow-runs'],
    ['after a space, which PHP ignores', '+include=variables'],
    ['before a NUL, where PHP ends a name', 'include%00x=variables'],
    ['in another parameter', 'Fields[flow]=id,secret'],
  ])('%s: ?%s', (_name, query) => expect(ask(query)).toBe('unless'));
});

describe('another query is left to the rule', () => {
  test.each([
    ['none', ''],
    ['another value', 'include=labels,latestVersion'],
    ['a count of it', 'include=variables_count,variablesCount'],
    ['whether there are any', 'include=variablesExists'],
    ['a longer or shorter name', 'include=flowVariables,variable2,vari'],
    ['no value', 'include=&include&include=,'],
    ['another parameter', 'included=variables&xinclude=variables&filter[include]=variables&sort=variables'],
    ['a parameter in another case, which is another one', 'INCLUDE=variables'],
    ['an escape that stays one', 'include=%2576ariables'],
  ])('%s: ?%s', (_name, query) => expect(ask(query)).toBe(flows));
});

test('the first rule that matches GET counts, also where its unless excludes the request', () => {
  expect(find(splitPath('/flows/1/x'), '')).toBe(flows);
  expect(find(splitPath('/other'), 'include=variables')).toMatchObject({ store: false });
  expect(createRuleFinder([flows])(splitPath('/other'), 'include=variables')).toBe(null);
  const later = rule('GET /**', 1_000);
  expect(createRuleFinder([flows, later])(splitPath('/flows'), 'include=variables')).toBe('unless');
});
