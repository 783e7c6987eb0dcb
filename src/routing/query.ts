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
  if (/%(?![0-9a-f]{2})/i.test(query)) return query;
  return query.replace(/%[0-9a-f]{2}/gi, (escaped) => {
    const character = String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
    return /[!-~]/.test(character) && !'&=+;%#'.includes(character) ? character : escaped.toUpperCase();
  });
}

/**
 * Laravel reads the method of a POST from `_method`: without this check a tenant that may POST could DELETE. The header forms of
 * the same override are stripped with the other request headers.
 */
export function carriesMethodOverride(method: string, query: string): boolean {
  if (method !== 'POST' || query === '') return false;
  for (const name of new URLSearchParams(query).keys()) {
    const variable = variableOf(name);
    if (variable === '_method' || variable.startsWith('_method[')) return true;
  }
  return false;
}

/** The credential of a webhook or callback, in its URL. */
export const SIGNATURE_PARAMETER = 'patchworks_signature';

/**
 * Whether a query has a parameter that holds a secret, in any spelling that a server may take for the name: PHP reads a dot, a space
 * and a lone bracket as an underscore, others ignore case.
 *
 * @param names as {@link parameterName} gives them
 */
export function carriesSecret(query: string, names: readonly string[]): boolean {
  if (query === '') return false;
  for (const written of new URLSearchParams(query).keys()) {
    const [beforeBracket = ''] = written.split('[');
    if (names.includes(parameterName(written)) || names.includes(parameterName(beforeBracket))) return true;
  }
  return false;
}

/** The name of a parameter in the spelling in which it is compared. */
export function parameterName(written: string): string {
  return variableOf(written)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '_');
}

/**
 * The name under which PHP finds a parameter (`php_register_variable_ex`): without leading spaces, cut at a NUL, with dots and
 * spaces as underscores.
 */
function variableOf(name: string): string {
  const [beforeNul = ''] = name.split('\0');
  return beforeNul.trim().replace(/[ .]/g, '_');
}
