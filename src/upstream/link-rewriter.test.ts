import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LinkRewriter, rewriteUrl } from './link-rewriter.ts';

const bases = {
  origins: ['https://core.wearepatchworks.com', 'https://start.wearepatchworks.com'],
  base: 'http://gw:8080',
};
const CORE = 'http://core.wearepatchworks.com';

function rewrite(text: string, cuts: number[] = []): string {
  const rewriter = new LinkRewriter(bases);
  const bytes = Buffer.from(text);
  const out: Buffer[] = [];
  let from = 0;
  for (const cut of [...cuts.map((each) => each % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
    out.push(rewriter.push(bytes.subarray(from, cut)));
    from = cut;
  }
  out.push(rewriter.flush());
  return Buffer.concat(out).toString();
}

const list = {
  data: [
    { id: 1, url: `${CORE}/api/v1/flows/1`, links: { self: `${CORE}/x` }, text: `"links": {"next": "${CORE}/y"}` },
    { path: `${CORE}/keep`, meta: { path: `${CORE}/keep` } },
  ],
  links: {
    first: `${CORE}/api/v1/flows?page=1`,
    last: 'https://core.wearepatchworks.com/api/v1/flows?page=9',
    prev: null,
    next: `${CORE}/api/v1/flows?page=2&filter[a]=b`,
  },
  meta: {
    path: `${CORE}/api/v1/flows`,
    links: [
      { url: null, label: '&laquo; Previous', active: false },
      { url: `${CORE}/api/v1/flows?page=1`, label: '1' },
    ],
    note: `${CORE}/keep`,
  },
  next_page_url: `${CORE}/api/v1/flows?page=2`,
  other: `${CORE}/keep`,
};
const expected = structuredClone(list);
expected.links.first = 'http://gw:8080/api/v1/flows?page=1';
expected.links.last = 'http://gw:8080/api/v1/flows?page=9';
expected.links.next = 'http://gw:8080/api/v1/flows?page=2&filter[a]=b';
expected.meta.path = 'http://gw:8080/api/v1/flows';
expected.meta.links[1]!.url = 'http://gw:8080/api/v1/flows?page=1';
expected.next_page_url = 'http://gw:8080/api/v1/flows?page=2';

describe('pagination links', () => {
  test('lead through the gateway, and the data stays unchanged', () => {
    expect(JSON.parse(rewrite(JSON.stringify(list)))).toEqual(expected);
    expect(JSON.parse(rewrite(JSON.stringify(list, null, 2)))).toEqual(expected);
  });

  test('with escaped slashes stay escaped, byte for byte', () => {
    const escaped = (value: unknown) => JSON.stringify(value).replaceAll('/', '\\/');
    expect(rewrite(escaped(list))).toBe(escaped(expected));
  });

  test('are rewritten alike in chunks of any size', () => {
    const text = JSON.stringify(list).replaceAll('/', '\\/');
    const whole = rewrite(text);
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 12 }), (cuts) => {
        expect(rewrite(text, cuts)).toBe(whole);
      }),
      { numRuns: 500 },
    );
  });

  test('any other document passes byte for byte, JSON or not', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.json(), fc.string({ maxLength: 200 })),
        fc.array(fc.nat(400), { maxLength: 5 }),
        (text, cuts) => {
          const bytes = Buffer.from(text).toString();
          expect(rewrite(text, cuts)).toBe(bytes);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test('a string longer than a link passes without being buffered', () => {
    const text = `{"links":{"next":"${CORE}/${'x'.repeat(20_000)}","prev":"${CORE}/p"}}`;
    expect(rewrite(text, [9000, 15_000])).toBe(text.replace(`${CORE}/p`, 'http://gw:8080/p'));
  });

  test('nesting takes no memory', () => {
    const text = '['.repeat(300_000);
    expect(rewrite(text)).toBe(text);
  });
});

describe('a URL', () => {
  test.each([
    ['https://core.wearepatchworks.com/api/v1/x', 'http://gw:8080/api/v1/x'],
    ['http://CORE.wearepatchworks.com/api', 'http://gw:8080/api'],
    ['https://core.wearepatchworks.com:443/api', 'http://gw:8080/api'],
    ['https://core.wearepatchworks.com', 'http://gw:8080'],
    ['https://core.wearepatchworks.com?x=1', 'http://gw:8080?x=1'],
  ])('%s on an upstream origin becomes %s', (url, rewritten) => {
    expect(rewriteUrl(url, bases)).toBe(rewritten);
  });

  test.each([
    'https://core.wearepatchworks.com.evil.test/api',
    'https://core.wearepatchworks.com@evil.test/api',
    'https://evil.test/https://core.wearepatchworks.com/',
    '/api/v1/x',
    'ftp://core.wearepatchworks.com/x',
  ])('%s stays unchanged', (url) => {
    expect(rewriteUrl(url, bases)).toBeNull();
  });
});
