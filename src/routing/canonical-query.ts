/**
 * Gives queries that mean the same one spelling. It keeps the order, and resolves escapes where that cannot change the meaning.
 *
 * Patchworks reads `application/x-www-form-urlencoded`: PHP splits at `&` and `=`, then decodes names and values. For every other
 * printable character the escape and the character are therefore the same (`%5B` and `[`). These stay escaped, in capitals (RFC
 * 3986 section 6.2.2.1): `& = + ; % #`, which have a role in that format, and everything that is not printable ASCII. `+` and
 * `%20` stay apart: only form decoding makes both a space, and one request too many is better than a wrong response. A query with
 * a malformed escape stays as it is, because servers differ.
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

/** The canonical spelling of each byte that was escaped. */
const SPELLING: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  return byte > 0x20 && byte < 0x7f && !'&=+;%#'.includes(character)
    ? character
    : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
});

/** The byte of two hexadecimal digits, or -1. */
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
