import { expect, test } from 'vitest';
import { urisIn } from './connections.ts';

test.each([
  ['', []],
  ['DNS:a.example, IP Address:127.0.0.1', []],
  ['URI:spiffe://example.org/a', ['spiffe://example.org/a']],
  ['DNS:a.example, URI:spiffe://example.org/a, URI:urn:b', ['spiffe://example.org/a', 'urn:b']],
  // Names that would look like several, as Node writes them.
  ['DNS:"x, URI:spiffe://example.org/admin"', []],
  ['DNS:"x\\", URI:spiffe://example.org/admin", URI:urn:b', ['urn:b']],
  ['URI:"spiffe://example.org/a, URI:spiffe://example.org/b"', []],
  ['DNS:URI:spiffe://example.org/admin', []],
  ['othername:<unsupported>, URI:urn:b', ['urn:b']],
  ['DirName:"C = GB, CN = URI:spiffe://example.org/admin", URI:urn:b', ['urn:b']],
  ['Registered ID:1.2.3.4, URI:urn:b', ['urn:b']],
])('the URIs in %s', (names, uris) => {
  expect(urisIn(names)).toEqual(uris);
});
