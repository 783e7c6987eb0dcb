import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { decode, encode } from '../cache/response-store.ts';
import { parseJson } from './scripts.ts';

describe('what another version or another program has written into Redis', () => {
  const form = z.object({ log: z.string(), at: z.int() });

  test.each([['not JSON'], ['null'], ['{"log":"a"}'], ['{"log":1,"at":2}'], ['{"log":"a","at":0.5}']])(
    'is nothing, if it has another form: %s',
    (text) => expect(parseJson(form, text)).toBeNull(),
  );

  test('is read, if it has the form', () => {
    expect(parseJson(form, '{"log":"a","at":2,"more":true}')).toEqual({ log: 'a', at: 2 });
  });

  const response = {
    ...{ kind: 'response' as const, status: 200, headers: [], generatedEtag: null, tags: [], storedAt: 1, tookMs: 1 },
    ...{ initialAgeMs: 0, freshForMs: 1, heldMs: 0 },
    stale: { staleWhileRevalidateMs: 0, staleIfErrorMs: 0, staleIfThrottledMs: 0 },
  };
  const head = { key: 'main\nk', entry: response, keepMs: 1, position: { log: 'a', at: 1 } };
  test.each<[string, Partial<typeof head>]>([
    ['a status that is none', { entry: { ...response, status: 99 } }],
    ['a tag that is no text', { entry: { ...response, tags: [1] as unknown as never[] } }],
    ['no field by which it varies', { entry: { kind: 'vary', fields: [] } as unknown as typeof response }],
    ['no position', { position: undefined as unknown as typeof head.position }],
  ])('is no response, if it has %s', async (_, wrong) => {
    const body = Buffer.from('x');
    expect((await decode(await encode(head, body)))?.body).toEqual(body);
    expect(await decode(await encode({ ...head, ...wrong }, body))).toBeNull();
  });
});
