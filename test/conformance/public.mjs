/**
 * @typedef {[name: string, value: string | number, checked?: boolean]} Field
 * @typedef {{ request_headers?: Field[], response_headers?: Field[], expected_response_headers?: (string | Field)[] }} Request
 */

const isCacheControl = (/** @type {Field} */ [name]) => name.toLowerCase() === 'cache-control';

/**
 * The same test with `Cache-Control: public` in every answer that does not say `private` or `no-store`.
 *
 * The gateway sends the account's credential with each request, and RFC 9111 section 3.5 then forbids to reuse an answer
 * that does not allow it expressly. The suite's origin hardly ever does: as it stands, it sees a cache that stores next to
 * nothing, and whatever else it asks goes unanswered. The tests of that section itself, with a caller's Authorization, stay.
 * @param {import('./suite.mjs').Test} test
 * @returns {import('./suite.mjs').Test}
 */
export function withPublic(test) {
  const requests = /** @type {Request[]} */ (test.requests);
  if (requests.some(({ request_headers: sent = [] }) => sent.some(([name]) => name === 'Authorization'))) return test;
  return { ...test, requests: requests.map(allow) };
}

/** @param {Request} request @returns {Request} */
function allow(request) {
  const { response_headers: fields = [], expected_response_headers: expected } = request;
  if (fields.some((field) => isCacheControl(field) && /private|no-store/i.test(String(field[1])))) return request;
  return {
    ...request,
    // A line of its own, and first: the others may be malformed on purpose. Not among those whose value is checked.
    response_headers: [['Cache-Control', 'public', false], ...fields],
    ...(expected && { expected_response_headers: expected.map(prefixed) }),
  };
}

/** @param {string | Field} field @returns {string | Field} */
const prefixed = (field) =>
  typeof field !== 'string' && field.length === 2 && isCacheControl(field) ? [field[0], `public, ${field[1]}`] : field;
