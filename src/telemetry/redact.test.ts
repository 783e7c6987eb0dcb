import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRedactor } from './redact.ts';

const CANARY = 'cn/7+ä"K=9_x-\\q';

const spellings: Record<string, (secret: string) => string> = {
  raw: (secret) => secret,
  JSON: (secret) => JSON.stringify({ a: secret }),
  'JSON in JSON': (secret) => JSON.stringify({ body: JSON.stringify({ a: secret }) }),
  'JSON as PHP writes it': (secret) => asPhp(secret),
  'that in JSON': (secret) => JSON.stringify({ body: asPhp(secret) }),
  URL: (secret) => `https://h/?q=${encodeURIComponent(secret)}`,
  'URL with lower-case escapes': (secret) => encodeURIComponent(secret).replace(/%../g, (octet) => octet.toLowerCase()),
  form: (secret) => new URLSearchParams({ password: secret }).toString(),
  hex: (secret) => Buffer.from(secret).toString('hex'),
  'upper-case hex': (secret) => Buffer.from(secret).toString('hex').toUpperCase(),
  base64: (secret) => Buffer.from(secret).toString('base64'),
  base64url: (secret) => Buffer.from(secret).toString('base64url'),
  'Basic, one letter before': (secret) => Buffer.from(`u:${secret}`).toString('base64'),
  'Basic, two letters before': (secret) => Buffer.from(`us:${secret}:x`).toString('base64'),
  'Basic, three letters before': (secret) => Buffer.from(`usr:${secret}`).toString('base64url'),
  'base64 in PHP JSON': (secret) => Buffer.from(secret).toString('base64').replaceAll('/', '\\/'),
};

function asPhp(secret: string): string {
  return JSON.stringify(secret)
    .replaceAll('/', '\\/')
    .replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

describe('a known secret does not survive', () => {
  for (const [name, spell] of Object.entries(spellings)) {
    it(`as ${name}`, () => {
      const redactor = createRedactor();
      redactor.add(CANARY);
      const text = spell(CANARY);
      const out = redactor.apply(`before ${text} after ${text}`);
      expect(out).toContain('[secret]');
      expect(out).not.toContain(text);
      expect(out.startsWith('before ') && out.includes(' after ')).toBe(true);
    });
  }

  it('whatever its characters and wherever it stands', () => {
    const anySecret = fc.string({ unit: 'grapheme', minLength: 6, maxLength: 40 });
    fc.assert(
      fc.property(anySecret, fc.string(), fc.string(), (secret, before, after) => {
        const redactor = createRedactor();
        redactor.add(secret);
        expect(redactor.apply(before + secret + after)).toContain('[secret]');
        expect(redactor.apply(JSON.stringify(before + secret + after))).toContain('[secret]');
        const encoded = Buffer.from(before + secret + after).toString('base64');
        expect(redactor.apply(encoded)).not.toBe(encoded);
      }),
    );
  });
});

describe('the redactor', () => {
  it('has no secret too many or too large', () => {
    const redactor = createRedactor();
    const secrets = Array.from({ length: 1_000 }, (_, i) =>
      `secret-${i}-`.padEnd(i % 100 === 0 ? 17_000 : 30, '+/\\"ä'),
    );
    for (const secret of secrets) redactor.add(secret);
    for (const secret of secrets) {
      for (const form of [
        secret,
        JSON.stringify(secret),
        encodeURIComponent(secret),
        Buffer.from(secret).toString('hex'),
      ]) {
        expect(redactor.apply(`a ${form} b`)).toMatch(/^a "?\[secret\]"? b$/);
      }
    }
  });

  it('withholds a text that it cannot search, and never throws', () => {
    const failing = createRedactor(() => () => {
      throw new Error('a fault of our own');
    });
    const unable = createRedactor(() => {
      throw new Error('a fault of our own');
    });
    for (const redactor of [failing, unable]) {
      redactor.add('configured-secret');
      expect(redactor.apply('a configured-secret')).toBe('[withheld: the search for secrets failed]');
    }
  });

  it('gives back the very text when there is nothing to hide', () => {
    const redactor = createRedactor();
    expect(redactor.apply('nothing')).toBe('nothing');
    redactor.add('a-long-secret');
    expect(redactor.apply('nothing')).toBe('nothing');
  });

  it('masks the longer of two secrets that begin alike whole', () => {
    const redactor = createRedactor();
    redactor.add('secret-one');
    redactor.add('secret-one-and-more');
    expect(redactor.apply('x secret-one-and-more y')).toBe('x [secret] y');
  });

  it('masks a short configured secret where it stands alone, and leaves words whole', () => {
    const redactor = createRedactor();
    redactor.add('abc');
    expect(redactor.apply('password "abc", user:abc@host, abcdef, cabc')).toBe(
      'password "[secret]", user:[secret]@host, abcdef, cabc',
    );
  });

  it('takes an empty value for no secret', () => {
    const redactor = createRedactor();
    redactor.add('');
    expect(redactor.apply('text')).toBe('text');
  });

  it('ignores a run-time value too short to be a token', () => {
    const redactor = createRedactor();
    redactor.addPassing('true');
    expect(redactor.apply('true')).toBe('true');
  });

  it('keeps the latest run-time tokens only, and configured secrets for good', () => {
    const redactor = createRedactor();
    redactor.add('configured-secret');
    for (let i = 0; i < 1000; i++) redactor.addPassing(`token-number-${i}-`);
    expect(redactor.apply('token-number-0- configured-secret token-number-999-')).toBe(
      'token-number-0- [secret] [secret]',
    );
  });

  it('counts a token that is used again as new', () => {
    const redactor = createRedactor();
    redactor.addPassing('token-in-use');
    for (let i = 0; i < 1000; i++) {
      redactor.addPassing(`token-number-${i}-`);
      redactor.addPassing('token-in-use');
    }
    expect(redactor.apply('token-in-use')).toBe('[secret]');
  });
});
