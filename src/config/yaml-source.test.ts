import { afterEach, describe, expect, test, vi } from 'vitest';
import { parseYaml } from './yaml-source.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const fileOf = (tenants: number) =>
  ['tenants:', ...Array.from({ length: tenants }, (_, i) => `  tenant-${i}: { quota: { rate: 60, burst: 20 } }`)].join(
    '\n',
  );

/** Counts the array elements that `some` and `find` visit. */
function looksOf(run: () => void): number {
  let looks = 0;
  for (const method of ['some', 'find'] as const) {
    const original = Array.prototype[method] as (this: unknown[], each: unknown, self?: unknown) => unknown;
    vi.spyOn(Array.prototype, method).mockImplementation(function (this: unknown[], each, self) {
      const counted = (...args: unknown[]) => {
        looks += 1;
        return (each as (...all: unknown[]) => unknown).apply(self, args);
      };
      return original.call(this, counted) as never;
    });
  }
  run();
  vi.restoreAllMocks();
  return looks;
}

const parsed = (text: string) => {
  const result = parseYaml('tenants.yaml', text);
  if (!('source' in result)) throw new Error('is not valid YAML');
  return result.source;
};

describe('a file of many tenants', () => {
  test('is parsed in steps that grow with its length, not with its square', () => {
    const [one, four] = [500, 2_000].map((tenants) => looksOf(() => void parsed(fileOf(tenants))));
    expect(four).toBeLessThan(5 * Math.max(500, one ?? 0));
  });

  test('finds the lines of a problem in each in as many steps', () => {
    const linesOf = (tenants: number) => {
      const source = parsed(fileOf(tenants));
      return looksOf(() => {
        for (let i = 0; i < tenants; i++)
          expect(source.lineOf(['tenants', `tenant-${i}`, 'quota', 'rate'])).toBe(i + 2);
      });
    };
    expect(linesOf(2_000)).toBeLessThan(5 * Math.max(500, linesOf(500)));
  });
});

test('a duplicate key is reported with its line, at any depth, also if only the quotes differ', () => {
  const text = 'a: 1\nb: { c: 1, d: 2, "c": 3 }\ne:\n  - f: 1\n    g: 2\n    f: 3\n\'a\': 2\n1: x\n"1": y\n';
  const result = parseYaml('x.yaml', text);
  expect('problems' in result && result.problems.map(({ line }) => line)).toEqual([2, 6, 7, 9]);
});
