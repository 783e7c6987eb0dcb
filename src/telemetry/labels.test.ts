import { expect, it } from 'vitest';
import { remember } from './labels.ts';

it('what was made is made once, and what was remembered for too many keys is forgotten rather than leaked', () => {
  let made = 0;
  const of = remember((key: number) => {
    made += 1;
    return { key };
  });
  expect(of(1)).toBe(of(1));
  expect(made).toBe(1);
  for (let key = 1; key <= 10_001; key++) of(key);
  made = 0;
  expect(of(1)).toEqual({ key: 1 });
  expect(made).toBe(1);
});
