import fc from 'fast-check';

/** Changes of a text of bytes, one after the other. A place is a share of the length, so that a change fits any text. */
export type Mutation =
  | { readonly kind: 'insert' | 'replace'; readonly at: number; readonly text: string }
  | { readonly kind: 'flip'; readonly at: number; readonly bit: number }
  | { readonly kind: 'cut'; readonly at: number; readonly length: number }
  | { readonly kind: 'repeat'; readonly at: number; readonly length: number; readonly times: number }
  | { readonly kind: 'end'; readonly at: number };

/** @param words what means something in the text: more often than chance would make them */
export function mutations(words: readonly string[], maxLength = 4): fc.Arbitrary<readonly Mutation[]> {
  const at = fc.integer({ min: 0, max: 1_000_000 }).map((n) => n / 1_000_000);
  const length = fc.integer({ min: 1, max: 40 });
  const bytes = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((n) => String.fromCharCode(n)), maxLength: 4 });
  const text = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...words) }, { weight: 1, arbitrary: bytes });
  return fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('insert' as const, 'replace' as const), at, text }) },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant('flip' as const), at, bit: fc.integer({ min: 0, max: 7 }) }),
      },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const), at, length }) },
      {
        weight: 2,
        arbitrary: fc.record({
          ...{ kind: fc.constant('repeat' as const), at, length },
          times: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.constantFrom(100, 3_000)),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('end' as const), at }) },
    ),
    { minLength: 1, maxLength },
  );
}

/** @param text latin1: a character is a byte */
export function mutated(text: string, changes: readonly Mutation[]): string {
  let now = text;
  for (const change of changes) now = changed(now, change);
  return now;
}

function changed(text: string, change: Mutation): string {
  const at = Math.floor(change.at * (text.length + 1));
  const [front, back] = [text.slice(0, at), text.slice(at)];
  switch (change.kind) {
    case 'insert':
      return front + change.text + back;
    case 'replace':
      return front + change.text + back.slice(change.text.length);
    case 'flip':
      return back === '' ? text : front + String.fromCharCode(back.charCodeAt(0) ^ (1 << change.bit)) + back.slice(1);
    case 'cut':
      return front + back.slice(change.length);
    case 'repeat':
      return front + back.slice(0, change.length).repeat(change.times) + back;
    case 'end':
      return front;
  }
}
