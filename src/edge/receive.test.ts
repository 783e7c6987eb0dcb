import type { IncomingMessage } from 'node:http';
import { expect, test } from 'vitest';
import { faultOf } from './receive.ts';

const asked = (host: string) =>
  faultOf({
    method: 'GET',
    url: '/',
    httpVersion: '1.1',
    headers: { host },
    rawHeaders: ['Host', host],
  } as unknown as IncomingMessage);

test('an empty Host is malformed, also in the first request of a process; what was good once makes nothing else good', () => {
  expect(asked('')).toBe('malformed Host');
  expect(asked('gate.test:8080')).toBeNull();
  expect(asked('gate.test:8080')).toBeNull();
  expect([asked(''), asked('gate test'), asked('gate.test:x')]).toEqual(Array(3).fill('malformed Host'));
});
