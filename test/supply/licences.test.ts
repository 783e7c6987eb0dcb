import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { FOR_DEVELOPMENT, IN_THE_IMAGE, plain } from '../../scripts/supply/allowed.mjs';
import { licencesInTheImage, licencesPage } from '../../scripts/supply/licences.mjs';
import { installed, nameAt, production, readLock } from '../../scripts/supply/lock.mjs';

const lock = readLock();

test('docs/licences.md is up to date (npm run generate)', () => {
  expect(readFileSync(fileURLToPath(new URL('../../docs/licences.md', import.meta.url)), 'utf8')).toBe(licencesPage());
});

test('every package of the image has a licence that is let in, and its text with it', () => {
  const inTheImage = licencesInTheImage();
  expect(inTheImage.length).toBeGreaterThan(30);
  expect(inTheImage.filter(({ licence }) => !IN_THE_IMAGE.includes(licence))).toEqual([]);
  expect(inTheImage.filter(({ texts }) => texts.length === 0)).toEqual([]);
});

test('what a package says of its licence when it is installed is what the lock file says', () => {
  const locked = new Map(production(lock).map(([path, { license }]) => [nameAt(path), plain(license)]));
  for (const { name, licence } of licencesInTheImage()) expect(licence, name).toBe(locked.get(name));
});

test('every package for development has a licence that is let in, on every system', () => {
  const allowed = [...IN_THE_IMAGE, ...Object.keys(FOR_DEVELOPMENT)];
  const others = installed(lock).filter(([, { license }]) => !allowed.includes(plain(license)));
  expect(others.map(([path, { license }]) => `${path}: ${license}`)).toEqual([]);
});
