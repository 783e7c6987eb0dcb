import type { IncomingMessage } from 'node:http';
import { expect, test } from 'vitest';
import { faultOf } from './request-context.ts';

const asked = (host: string) =>
  faultOf({
    method: 'GET',
    url: '/',
    httpVersion: '1.1',
    headers: { host },
    rawHeaders: ['Host', host],
  } as unknown as IncomingMessage);

test.each(['gate.test', 'gate.test:8080', 'GATE.test', 'gate_1', '10.0.0.1:80', '[::1]', '[2001:db8::1]:443'])(
  'the Host %s is accepted',
  (host) => {
    expect(asked(host)).toBeNull();
  },
);

test.each([
  '',
  'gate test',
  'gate.test:x',
  'gate.test:99999',
  'a@b',
  'a/b',
  '[1:2]',
  '127.1',
  '[0:0::1]',
  '0x7f.0.0.1',
])('a Host that is none, or is spelled as a URL would not spell it, is malformed: "%s"', (host) => {
  expect(asked(host)).toBe('malformed Host');
});
