// Renders docs/licences.md from the installed packages, without versions: they change every week, and are in the lock file and SBOM.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FOR_DEVELOPMENT, IN_THE_IMAGE, plain } from './allowed.mjs';
import { installed, nameAt, production, readLock } from './lock.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** @typedef {{ name: string, licence: string, texts: string[] }} Licensed */

/**
 * The packages of the image, each with the licence it says it has and the files in which it says so. The text has to be there:
 * most licences allow copies only together with it, and the image's node_modules is such a copy.
 * @returns {Licensed[]}
 */
export function licencesInTheImage() {
  return production(readLock()).map(([path]) => {
    const { license } = JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8'));
    const files = readdirSync(join(root, path));
    const own = files.filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
    // Some packages have the whole text in their README.
    const inReadme = files.filter((file) => /^readme/i.test(file) && hasMitText(join(root, path, file)));
    const texts = own.length > 0 ? own : inReadme;
    return { name: nameAt(path), licence: plain(license), texts };
  });
}

/** @param {string} file */
function hasMitText(file) {
  const text = readFileSync(file, 'utf8').replace(/\s+/g, ' ');
  return (
    /Copyright/.test(text) && text.includes('The above copyright notice and this permission notice shall be included')
  );
}

/** Without the builds of a package for one system each: they are many, and licensed as it is. @returns {Map<string, string[]>} names by licence */
function licencesOfDevelopment() {
  /** @type {Map<string, string[]>} */
  const found = new Map();
  for (const [path, { dev, license, os }] of installed(readLock())) {
    if (dev !== true || os !== undefined) continue;
    const licence = plain(license);
    found.set(licence, [...new Set([...(found.get(licence) ?? []), nameAt(path)])].sort());
  }
  return found;
}

export function licencesPage() {
  const rows = licencesInTheImage()
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, licence, texts }) => `| \`${name}\` | ${licence} | ${texts.join(', ')} |`);
  const development = licencesOfDevelopment();
  const usual = IN_THE_IMAGE.filter((licence) => development.has(licence));
  const unusual = Object.entries(FOR_DEVELOPMENT).flatMap(([licence, reason]) => {
    const names = development.get(licence);
    return names ? [`| ${licence} | ${names.map((name) => `\`${name}\``).join(', ')} | ${reason} |`] : [];
  });
  return `# Licences of the dependencies

\`npm run generate\` writes this page from the installed packages. patchgate itself is under the
[MIT licence](../LICENSE). [scripts/supply/allowed.mjs](../scripts/supply/allowed.mjs) lists the allowed
licences with reasons, and a test fails for any other.

## In the image

The image has each package in \`/app/node_modules\`, together with the text of its licence, as the
licences require. \`npm run sbom\` lists versions and hashes. Node.js and the files of the base image
are not listed here; the image's own SBOM lists them.

| package | licence | text |
| --- | --- | --- |
${[...new Set(rows)].join('\n')}

## To build and test

These packages are not part of the image and are not distributed. Most are under
${usual.slice(0, -1).join(', ')} or ${usual.at(-1)}. The others:

| licence | packages | why it is allowed |
| --- | --- | --- |
${unusual.join('\n')}
`;
}
