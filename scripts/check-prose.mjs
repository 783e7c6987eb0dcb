// Fails for the worst violations of the prose rules in CONTRIBUTING.md, and prints each with its line. With a path: only below it.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { findingsIn } from './prose/rules.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

const FOLDERS = ['src', 'test', 'scripts', 'config', 'deploy', 'docs', 'helm', '.github', '.ci'];
/** Files that quote what the rules forbid, and files in words of others. */
const EXCEPT = ['scripts/prose/rules.mjs', 'test/docs/prose.test.ts', 'test/conformance/deviations.json'];

/** @returns {string[]} paths from the root of the repository */
function files() {
  const below = FOLDERS.flatMap((folder) =>
    existsSync(`${root}${folder}`)
      ? readdirSync(`${root}${folder}`, { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`)
      : [],
  );
  const above = readdirSync(root).filter((name) => name.endsWith('.md') || name === 'Dockerfile');
  return [...above, ...below].filter((path) => !EXCEPT.includes(path)).sort();
}

/** @param {string[]} args */
function main([below = '']) {
  let count = 0;
  for (const path of files().filter((each) => each.startsWith(below))) {
    for (const { line, rule, text } of findingsIn(path, () => readFileSync(`${root}${path}`, 'utf8'))) {
      console.error(`${path}:${line}: ${rule}: ${text}`);
      count += 1;
    }
  }
  console.log(count === 0 ? 'prose: no findings' : `prose: ${count} findings (rules: CONTRIBUTING.md#prose)`);
  return count === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exitCode = main(process.argv.slice(2));
