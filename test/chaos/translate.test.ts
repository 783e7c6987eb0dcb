import { expect, test } from 'vitest';
import { translated } from './translate.mjs';

const PORTS = new Map([[40_001, 20_001]]);
const after = (text: string) => translated(Buffer.from(text), PORTS).toString();

test.each([
  ['a redirect', '-MOVED 7246 127.0.0.1:40001\r\n', '-MOVED 7246 127.0.0.1:20001\r\n'],
  ['a node of CLUSTER SLOTS', '$9\r\n127.0.0.1\r\n:40001\r\n', '$9\r\n127.0.0.1\r\n:20001\r\n'],
  ['a master of a Sentinel', '$9\r\n127.0.0.1\r\n$5\r\n40001\r\n', '$9\r\n127.0.0.1\r\n$5\r\n20001\r\n'],
  [
    'another Sentinel',
    '$9\r\n127.0.0.1\r\n$4\r\nport\r\n$5\r\n40001\r\n',
    '$9\r\n127.0.0.1\r\n$4\r\nport\r\n$5\r\n20001\r\n',
  ],
  ['a message of a fail-over', 'chaos 127.0.0.1 40001 127.0.0.1 40002', 'chaos 127.0.0.1 20001 127.0.0.1 40002'],
])('leads the caller of %s to its wire, and changes no length', (_, said, heard) => {
  expect(after(said)).toBe(heard);
});

test('leaves alone what is no address, and bytes that are no text', () => {
  expect(after('$5\r\n40001\r\n')).toBe('$5\r\n40001\r\n');
  expect(after('127.0.0.1:400012')).toBe('127.0.0.1:400012');
  const bytes = Buffer.from([0, 200, 255, 13, 10]);
  expect(translated(bytes, PORTS)).toBe(bytes);
});
