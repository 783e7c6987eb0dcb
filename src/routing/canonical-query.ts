/**
 * One spelling for queries that mean the same: order is kept, escapes are resolved where that cannot change the meaning.
 *
 * Patchworks reads `application/x-www-form-urlencoded`: PHP splits at `&` and `=` first and decodes names and values
 * after that, so for every other printable character the escape and the character are the same (`%5B` and `[`, `%2C`
 * and `,`). Kept as escapes, in capitals (RFC 3986 section 6.2.2.1): the characters with a role in that format, `& = + ; %`
 * and `#`, and what is not printable ASCII. `+` and `%20` stay apart: only form decoding makes both a space, and a
 * request too many is cheaper than a wrong answer. A query with a malformed escape stays as it is, since servers differ.
 */
export function canonicalQuery(query: string): string {
  let mark = query.indexOf('%');
  if (mark === -1) return query;
  let canonical = '';
  let done = 0;
  while (mark !== -1) {
    const byte = hexByte(query.charCodeAt(mark + 1), query.charCodeAt(mark + 2));
    if (byte === -1) return query;
    canonical += query.slice(done, mark) + SPELLING[byte];
    done = mark + 3;
    mark = query.indexOf('%', done);
  }
  return canonical + query.slice(done);
}

/** How each byte that came as an escape is spelled in the key. */
const SPELLING: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  return byte > 0x20 && byte < 0x7f && !'&=+;%#'.includes(character)
    ? character
    : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
});

/** The byte that two hexadecimal digits stand for, or -1. */
function hexByte(high: number, low: number): number {
  const a = hexDigit(high);
  const b = hexDigit(low);
  return a === -1 || b === -1 ? -1 : a * 16 + b;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
