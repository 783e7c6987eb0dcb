// Finds the worst violations of the prose rules in CONTRIBUTING.md. `--list [PATH]` prints each with its line.
// scripts/prose-debt.json counts those that were there when the rules were introduced; the sum must not grow.
// `--update` lowers the counts to today's.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { findingsIn } from './prose/rules.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const debtFile = fileURLToPath(new URL('prose-debt.json', import.meta.url));

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

/** @returns {Map<string, import('./prose/rules.mjs').Finding[]>} by path; only files with findings */
function allFindings() {
  const found = new Map();
  for (const path of files()) {
    const findings = findingsIn(path, () => readFileSync(`${root}${path}`, 'utf8'));
    if (findings.length > 0) found.set(path, findings);
  }
  return found;
}

const sum = (/** @type {Iterable<number>} */ numbers) => [...numbers].reduce((total, each) => total + each, 0);

/** @param {string[]} args */
function main(args) {
  const found = allFindings();
  const show = (/** @type {string} */ path) => {
    for (const { line, rule, text } of found.get(path) ?? []) console.error(`${path}:${line}: ${rule}: ${text}`);
  };
  if (args[0] === '--list') {
    for (const path of found.keys()) if (args[1] === undefined || path.startsWith(args[1])) show(path);
    return 0;
  }
  const counts = Object.fromEntries([...found].map(([path, findings]) => [path, findings.length]));
  if (args[0] === '--update') {
    writeFileSync(debtFile, `${JSON.stringify(counts, null, 2)}\n`);
    return 0;
  }
  /** @type {Record<string, number>} */
  const debt = existsSync(debtFile) ? JSON.parse(readFileSync(debtFile, 'utf8')) : {};
  const [now, then] = [sum(Object.values(counts)), sum(Object.values(debt))];
  if (now > then) {
    // By the sum, so that a file can be renamed, split or merged without touching the list.
    for (const [path, count] of Object.entries(counts)) if (count > (debt[path] ?? 0)) show(path);
    console.error(`prose: ${now} findings, ${now - then} more than allowed (rules: CONTRIBUTING.md#prose)`);
    return 1;
  }
  console.log(`prose: ${now === 0 ? 'no findings' : `${now} findings left of ${then}`}`);
  return 0;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exitCode = main(process.argv.slice(2));
