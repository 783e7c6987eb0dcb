import { describe, expect, test } from 'vitest';
import { problems } from '../../src/problem.ts';
import { BILLING_KEY, runChecked } from '../support/gateway.ts';
import { sendRaw } from '../support/raw-http.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;
const HEAD = `Host: x\r\n${AUTH}\r\nConnection: close\r\n`;
const START = '/api/v1/flows/1/start';
/** This request must never reach upstream: it is hidden in bytes that another reader might take for a body, or not. */
const SMUGGLED = `GET /api/v1/scripts HTTP/1.1\r\nHost: x\r\n${AUTH}\r\n\r\n`;

const get = (more: string, version = 'HTTP/1.1') => `GET /api/v1/flow-runs ${version}\r\n${HEAD}${more}\r\n`;
const post = (framing: string, body: string, version = 'HTTP/1.1') =>
  `POST ${START} ${version}\r\n${HEAD}${framing}\r\n${body}`;
const chunked = (body: string) => post('Transfer-Encoding: chunked\r\n', body);
const bodyOf = (coding: string) => post(coding, `2\r\n{}\r\n0\r\n\r\n${SMUGGLED}`);

/** These are plain bytes, so that their effect is the same on every machine. */
const REFUSED: readonly (readonly [string, string])[] = [
  ['CL.TE', post('Content-Length: 6\r\nTransfer-Encoding: chunked\r\n', `0\r\n\r\n${SMUGGLED}`)],
  ['TE.CL', post('Transfer-Encoding: chunked\r\nContent-Length: 4\r\n', `2\r\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['TE.TE, chunked twice', bodyOf('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n')],
  ['TE.TE, the second unknown', bodyOf('Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n')],
  ['TE.TE, the first unknown', bodyOf('Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n')],
  ['chunked, identity', bodyOf('Transfer-Encoding: chunked, identity\r\n')],
  ['gzip, chunked', bodyOf('Transfer-Encoding: gzip, chunked\r\n')],
  ['a quoted coding', bodyOf('Transfer-Encoding: "chunked"\r\n')],
  ['a coding after a vertical tab', bodyOf('Transfer-Encoding: \x0bchunked\r\n')],
  ['a folded coding', bodyOf('Transfer-Encoding:\r\n chunked\r\n')],
  ['a coding with a space before the colon', bodyOf('Transfer-Encoding : chunked\r\n')],
  ['an empty coding and a length', post('Transfer-Encoding:\r\nContent-Length: 2\r\n', `{}${SMUGGLED}`)],
  ['a coding in HTTP/1.0', post('Transfer-Encoding: chunked\r\n', `2\r\n{}\r\n0\r\n\r\n${SMUGGLED}`, 'HTTP/1.0')],
  ['one length twice', post('Content-Length: 2\r\nContent-Length: 2\r\n', `{}${SMUGGLED}`)],
  ['two lengths', post('Content-Length: 2\r\nContent-Length: 90\r\n', `{}${SMUGGLED}`)],
  ['a list of lengths', post('Content-Length: 2, 2\r\n', `{}${SMUGGLED}`)],
  ['a signed length', post('Content-Length: +2\r\n', `{}${SMUGGLED}`)],
  ['a hexadecimal length', post('Content-Length: 0x2\r\n', `{}${SMUGGLED}`)],
  ['a length with a space in it', post('Content-Length: 2 2\r\n', `{}${SMUGGLED}`)],
  ['an empty length', post('Content-Length:\r\n', `{}${SMUGGLED}`)],
  ['a length beyond all numbers', post('Content-Length: 99999999999999999999999\r\n', '{}')],
  ['a chunk size with 0x', chunked(`0x2\r\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['a signed chunk size', chunked(`+2\r\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['a negative chunk size', chunked(`-1\r\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['a chunk size beyond 64 bits', chunked(`fffffffffffffffff\r\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['a chunk size with a space', chunked(`2 \r\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['an empty chunk size', chunked(`\r\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['chunks ended by LF', chunked(`2\n{}\n0\n\n${SMUGGLED}`)],
  ['a chunk extension ended by LF', chunked(`2;a\n{}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['a chunk extension of 20 KB', chunked(`2;${'a'.repeat(20_000)}\r\n{}\r\n0\r\n\r\n`)],
  ['a chunk longer than it says', chunked(`2\r\n{}}\r\n0\r\n\r\n${SMUGGLED}`)],
  ['a chunk without its end', chunked(`2\r\n{}0\r\n\r\n${SMUGGLED}`)],
  ['a malformed trailer', chunked(`2\r\n{}\r\n0\r\nno trailer\r\n\r\n${SMUGGLED}`)],
  ['a trailer that is folded', chunked(`2\r\n{}\r\n0\r\nX-A: b\r\n c\r\n\r\n${SMUGGLED}`)],
  ['bare LF throughout', get('').replaceAll('\r\n', '\n')],
  ['bare LF in one header', get('X-A: b\nX-B: c\r\n')],
  ['bare LF at the end of the head', `GET /api/v1/flow-runs HTTP/1.1\r\n${HEAD}\n`],
  ['bare CR in a header', get('X-A: b\rX-B: c\r\n')],
  ['bare CR before a smuggled head', get(`X-A: b\r\r\n${SMUGGLED}`)],
  ['NUL in a name', get('X-\0A: b\r\n')],
  ['a control character in a value', get('X-A: a\x01b\r\n')],
  ['a folded first header', `GET /api/v1/flow-runs HTTP/1.1\r\n ${HEAD}\r\n`],
  ['a header without a colon', get('nonsense\r\n')],
  ['a header without a name', get(': x\r\n')],
  ['two Hosts', get('Host: y\r\n')],
  ['one Host twice', get('Host: x\r\n')],
  ['a Host with a user', get('').replace('Host: x', 'Host: x@evil.test')],
  ['a Host that is no address', get('').replace('Host: x', 'Host: [1:2]')],
  ['a Host with a port that is none', get('').replace('Host: x', 'Host: x:99999')],
  ['an empty Host', get('').replace('Host: x', 'Host:')],
  ['HTTP/0.9 without a version', 'GET /api/v1/flow-runs\r\n\r\n'],
  ['HTTP/0.9 by name', get('', 'HTTP/0.9')],
  ['HTTP/1.2', get('', 'HTTP/1.2')],
  ['HTTP/2.0 by name', get('', 'HTTP/2.0')],
  ['HTTP/11.1', get('', 'HTTP/11.1')],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'],
  ['the beginning of TLS', '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03'],
  ['a PROXY line', `PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n${get('')}`],
  ['a space before the method', ` ${get('')}`],
  ['tabs in the request line', get('').replace('GET /api/v1/flow-runs ', 'GET\t/api/v1/flow-runs\t')],
  ['a space in the target', get('').replace('flow-runs', 'flow-runs /x')],
  ['a byte above ASCII in the target', get('').replace('flow-runs', 'flow-runs?a=\xe9')],
  ['DEL in the target', get('').replace('flow-runs', 'flow-runs?a=\x7f')],
  ['a method in small letters', get('').replace('GET', 'get')],
  ['a target of 40 KB', get('').replace('flow-runs', `flow-runs?${'a'.repeat(40_000)}`)],
  ['one header of 40 KB', get(`X-A: ${'a'.repeat(40_000)}\r\n`)],
  ['5,000 headers within 32 KiB', get('a:b\r\n'.repeat(5_000))],
  ['101 headers', get('a:b\r\n'.repeat(98))],
  ['an absolute target', get('').replace('/api', 'http://core.wearepatchworks.com/api')],
  ['an absolute target of the gateway itself', get('').replace('/api', 'http://x/api')],
  ['a target that is an authority', get('').replace('/api/v1/flow-runs', 'evil.test:443')],
  ['the target *', get('').replace('GET /api/v1/flow-runs', 'OPTIONS *')],
  ['TRACE', get('').replace('GET', 'TRACE')],
  ['CONNECT with a path', get('').replace('GET', 'CONNECT')],
  ['CONNECT with an authority', get('').replace('GET /api/v1/flow-runs', 'CONNECT evil.test:443')],
];

describe('bytes that two readers could read differently never reach upstream, and the gateway lives', () => {
  test.each(REFUSED)('%s', async (_name, bytes) => {
    await using gateway = await runChecked();
    const answer = await sendRaw(gateway.port, Buffer.from(bytes, 'latin1')).catch(() => null);
    // With a response or without: where the end of the body is unknown, the connection is closed.
    if (answer !== null && answer.text !== '') {
      expect(answer.text.match(/^HTTP\/1\.1 \d+/gm)).toHaveLength(1);
      expect(answer.headers['connection']).toBe('close');
      expect(answer.headers['content-type']).toBe('application/problem+json');
      const { code } = JSON.parse(answer.body) as { code: keyof typeof problems };
      expect([400, 413]).toContain(problems[code].status);
    }
    await gateway.expectUnharmed();
    // A body that turned out to be malformed may have begun to arrive; it was broken off, never completed.
    const complete = gateway.simulator.arrivals().filter((each) => each.status !== null || each.bodySha256 !== null);
    expect(complete).toEqual([]);
    expect(gateway.simulator.arrivals().filter((each) => each.target !== START)).toEqual([]);
  });
});

/** Odd, and with one reading: that one arrives, once, and what a body hides stays a body. */
const ACCEPTED: readonly (readonly [string, string, readonly (readonly [string, string, number])[]])[] = [
  ['HTTP/1.0', `GET /api/v1/flow-runs HTTP/1.0\r\n${AUTH}\r\n\r\n`, [['GET', '/api/v1/flow-runs', 0]]],
  [
    'a request within a body',
    post(`Content-Length: ${SMUGGLED.length}\r\n`, SMUGGLED),
    [['POST', START, SMUGGLED.length]],
  ],
  [
    'a request within a chunk',
    chunked(`${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`),
    [['POST', START, SMUGGLED.length]],
  ],
  [
    'a GET with a body',
    `GET /api/v1/flow-runs HTTP/1.1\r\n${HEAD}Content-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
    [['GET', '/api/v1/flow-runs', SMUGGLED.length]],
  ],
  ['empty lines before the request', `\r\n\r\n${get('')}`, [['GET', '/api/v1/flow-runs', 0]]],
  ['a coding in capitals', post('TRANSFER-ENCODING: CHUNKED\r\n', '2\r\n{}\r\n0\r\n\r\n'), [['POST', START, 2]]],
  ['a chunk extension', chunked('2;a="b\\"c"\r\n{}\r\n0\r\n\r\n'), [['POST', START, 2]]],
  ['a chunk size with zeros before it', chunked('0002\r\n{}\r\n0\r\n\r\n'), [['POST', START, 2]]],
  ['trailers', chunked(`2\r\n{}\r\n0\r\n${AUTH}\r\nX-Trailer: 1\r\n\r\n`), [['POST', START, 2]]],
  ['a length with spaces around it', post('Content-Length:  2 \r\n', '{}'), [['POST', START, 2]]],
  [
    'an underscore for the dash of a coding',
    post('Transfer_Encoding: chunked\r\nContent-Length: 2\r\n', '{}'),
    [['POST', START, 2]],
  ],
  [
    'an underscore for the dash of a length',
    post('Content_Length: 90\r\nContent-Length: 2\r\n', '{}'),
    [['POST', START, 2]],
  ],
  [
    'Upgrade to HTTP/2',
    get('Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n').replace(
      'Connection: close',
      'Connection: close, Upgrade, HTTP2-Settings',
    ),
    [['GET', '/api/v1/flow-runs', 0]],
  ],
  [
    'Upgrade with a body',
    post('Upgrade: websocket\r\nContent-Length: 2\r\n', '{}').replace(
      'Connection: close',
      'Connection: Upgrade, close',
    ),
    [['POST', START, 2]],
  ],
  ['an unknown expectation', post('Expect: 200-maybe\r\nContent-Length: 2\r\n', '{}'), [['POST', START, 2]]],
  // Node's parser does not say which protocol it was.
  ['a request line of RTSP', get('', 'RTSP/1.0'), [['GET', '/api/v1/flow-runs', 0]]],
  ['100 headers', get('a:b\r\n'.repeat(97)), [['GET', '/api/v1/flow-runs', 0]]],
];

describe('bytes with one reading arrive as that, once, with nothing of their framing', () => {
  test.each(ACCEPTED)('%s', async (_name, bytes, arrivals) => {
    await using gateway = await runChecked();
    const answer = await sendRaw(gateway.port, Buffer.from(bytes, 'latin1'));
    expect(answer.text.match(/^HTTP\/1\.1 \d+/gm)).toEqual(['HTTP/1.1 200']);
    const found = gateway.simulator.arrivals();
    expect(found.map((each) => [each.method, each.target, each.bodyBytes])).toEqual(arrivals);
    const names = found.flatMap(({ headers }) => headers.filter((_, index) => index % 2 === 0)).join();
    expect(names).not.toMatch(/upgrade|http2|expect|trailer|_/i);
    await gateway.expectUnharmed();
  });

  test('the credential of the account comes before all that the caller has sent, where no limit cuts it off', async () => {
    await using gateway = await runChecked();
    await sendRaw(gateway.port, get('a:b\r\n'.repeat(97)));
    const names = gateway.simulator.arrivals()[0]!.headers.filter((_, index) => index % 2 === 0);
    expect(names.slice(0, 3).map((name) => name.toLowerCase())).toEqual(['host', 'connection', 'authorization']);
  });

  test('an interim response is for a caller that waits for it in HTTP/1.1, and for no other', async () => {
    await using gateway = await runChecked();
    const waiting = post('Expect: 100-Continue\r\nContent-Length: 2\r\n', '{}');
    const statuses = async (bytes: string) => (await sendRaw(gateway.port, bytes)).text.match(/^HTTP\/1\.1 \d+/gm);
    expect(await statuses(waiting)).toEqual(['HTTP/1.1 100', 'HTTP/1.1 200']);
    expect(await statuses(waiting.replace('HTTP/1.1', 'HTTP/1.0'))).toEqual(['HTTP/1.1 200']);
  });
});
