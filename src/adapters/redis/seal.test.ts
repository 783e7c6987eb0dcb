import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sightings } from '../../../test/support/canaries.ts';
import { markOf, open, type SealedFor, type SealingKey, seal } from './seal.ts';

const keyOf = (id: string): SealingKey => ({ id, bytes: randomBytes(32) });
const PLACE: SealedFor = { account: 'main', credential: 'login', token: 'token-1' };
const text = fc.string({ unit: 'binary', minLength: 0, maxLength: 3_000 });
const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,20}$/);
const place = fc.record({ account: name, credential: name, token: name });

describe('a sealed token', () => {
  test('is opened by whoever has the key, as it was, wherever the key stands', () => {
    fc.assert(
      fc.property(text, place, name, (token, where, id) => {
        const key = keyOf(id);
        const sealed = seal(token, where, key);
        expect(open(sealed, where, [key])).toEqual({ ok: true, token, current: true });
        expect(open(sealed, where, [keyOf('another:one'), key])).toEqual({ ok: true, token, current: false });
      }),
    );
  });

  test('can not be opened in any other place than the one it was sealed for', () => {
    fc.assert(
      fc.property(place, place, (where, elsewhere) => {
        fc.pre(JSON.stringify(where) !== JSON.stringify(elsewhere));
        const key = keyOf('k');
        expect(open(seal('fake-token', where, key), elsewhere, [key])).toEqual({ ok: false, why: 'damaged' });
      }),
    );
    for (const part of ['account', 'credential', 'token'] as const) {
      const key = keyOf('k');
      const sealed = seal('fake-token', PLACE, key);
      expect([part, open(sealed, { ...PLACE, [part]: 'other' }, [key]).ok]).toEqual([part, false]);
    }
    // Nor where the parts only read the same when put together.
    const key = keyOf('k');
    const sealed = seal('fake-token', { account: 'a', credential: 'bc', token: 't' }, key);
    expect(open(sealed, { account: 'ab', credential: 'c', token: 't' }, [key]).ok).toBe(false);
  });

  test('can not be opened with another key, also not with one of the same name, nor under the name of another', () => {
    const key = keyOf('k');
    const sealed = seal('fake-token', PLACE, key);
    expect(open(sealed, PLACE, [keyOf('k')])).toEqual({ ok: false, why: 'damaged' });
    expect(open(sealed, PLACE, [keyOf('other')])).toEqual({ ok: false, why: 'unknown key' });
    expect(open(sealed, PLACE, [])).toEqual({ ok: false, why: 'unknown key' });
    const renamed = sealed.replace('1:k:', '1:other:');
    expect(open(renamed, PLACE, [{ id: 'other', bytes: key.bytes }])).toEqual({ ok: false, why: 'damaged' });
  });

  test('that was changed in any bit, cut or lengthened is not opened, and nothing throws', () => {
    const key = keyOf('k');
    const sealed = seal('fake-token', PLACE, key);
    const bytes = Buffer.from(sealed.slice('1:k:'.length), 'base64url');
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(open(`1:k:${changed.toString('base64url')}`, PLACE, [key]).ok).toBe(false);
    }
    for (let length = 0; length < bytes.length; length++)
      expect(open(`1:k:${bytes.subarray(0, length).toString('base64url')}`, PLACE, [key]).ok).toBe(false);
    expect(open(`1:k:${Buffer.concat([bytes, Buffer.alloc(1)]).toString('base64url')}`, PLACE, [key]).ok).toBe(false);
  });

  test('is never taken from what is no sealed token', () => {
    const key = keyOf('k');
    fc.assert(
      fc.property(
        fc.oneof(
          text,
          fc.array(text, { maxLength: 4 }).map((parts) => parts.join(':')),
        ),
        (garbage) => {
          expect(open(garbage, PLACE, [key]).ok).toBe(false);
          expect(open(`1:k:${garbage}`, PLACE, [key]).ok).toBe(false);
        },
      ),
    );
    const sealed = seal('fake-token', PLACE, key);
    for (const other of [sealed.replace('1:', '2:'), `${sealed}:`, sealed.slice(2)])
      expect(open(other, PLACE, [key]).ok).toBe(false);
  });

  test('shows nothing of the token, and is another one each time', () => {
    const key = keyOf('k');
    const token = 'fake-token-that-is-long-enough-to-be-found';
    const all = Array.from({ length: 100 }, () => seal(token, PLACE, key));
    expect(new Set(all).size).toBe(100);
    expect(sightings(all.join('\n'), [{ name: 'token', value: token }])).toEqual([]);
    const nonces = all.map((each) => each.slice('1:k:'.length).slice(0, 16));
    expect(new Set(nonces).size).toBe(100);
  });
});

test('a mark tells passwords apart, is the same each time, and another one with another key', () => {
  const [one, two] = [keyOf('k'), keyOf('k')];
  expect(markOf('fake-password', one)).toBe(markOf('fake-password', one));
  expect(markOf('fake-password', one)).not.toBe(markOf('fake-password2', one));
  expect(markOf('fake-password', one)).not.toBe(markOf('fake-password', two));
  expect(markOf('fake-password', one)).toMatch(/^k:[\w-]{22}$/);
});
