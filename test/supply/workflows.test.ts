import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { problemsOf, read, stepsOf } from '../support/github-workflows.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const text = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const FOLDER = '.github/workflows';
const files = readdirSync(join(ROOT, FOLDER));
const ci = read(text(`${FOLDER}/ci.yaml`));
const release = read(text(`${FOLDER}/release.yaml`));

test.each(files)('%s pins its actions, bounds its jobs, and lets no one outside into a script', (file) => {
  expect(problemsOf(text(`${FOLDER}/${file}`))).toEqual([]);
});

const CHECKOUT = 'actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1';
test.each<[string, string, string, string]>([
  ['an action without its version', ' # v7.0.1', '', 'not a commit'],
  ['an action of a branch', CHECKOUT, 'actions/checkout@main', 'not a commit'],
  ['a short hash', CHECKOUT, CHECKOUT.slice(0, 24), 'not a commit'],
  ['an action in quotes', `${CHECKOUT} # v7.0.1`, '"actions/checkout@v7"', 'not a commit'],
  ['an action on the quiet', '- run: .ci/run', '- { name: Cache, uses: actions/cache@v4 }', 'could not be read'],
  [
    'a job of another repository',
    '    runs-on:',
    '    uses: else/where/.github/workflows/a.yaml@v1\n    runs-on:',
    'not a commit',
  ],
  ['pull requests with the rights of the repository', 'pull_request:', 'pull_request_target:', 'pull_request_target'],
  ['rights for all jobs', 'permissions: {}', 'permissions: write-all', 'to all jobs'],
  ['a job without rights of its own', '    permissions:\n      contents: read\n', '', 'its permissions'],
  [
    'a job with all rights',
    '    permissions:\n      contents: read\n',
    '    permissions: write-all\n',
    'its permissions',
  ],
  ['a job without end', '    timeout-minutes: 90\n', '', 'no timeout'],
  ['a system that changes', 'ubuntu-24.04', 'ubuntu-latest', 'the latest'],
  ['runs that overtake each other', 'concurrency:', 'env:', 'no concurrency'],
  ['a token for all that runs after it', 'persist-credentials: false', 'fetch-depth: 1', 'leaves the token'],
  ['a title in a script', 'run: .ci/run', 'run: echo "${{ github.event.pull_request.title }}"', 'into a script'],
  [
    'a branch in an action',
    '${{ matrix.node }}\n          check',
    '${{ github.head_ref }}\n          check',
    'a stranger',
  ],
])('%s is noticed', (_, from, to, problem) => {
  const before = text(`${FOLDER}/ci.yaml`);
  expect(before).toContain(from);
  expect(problemsOf(before.replace(from, () => to)).join('\n')).toContain(problem);
});

test('one action is one commit, in every workflow', () => {
  const used = files.flatMap((file) => [...text(`${FOLDER}/${file}`).matchAll(/uses: ([\w./-]+)@(\w+) # (\S+)/g)]);
  const pins = new Map<string, Set<string>>();
  for (const [, action = '', ...pin] of used) pins.set(action, (pins.get(action) ?? new Set()).add(pin.join(' ')));
  expect(pins.size).toBeGreaterThan(5);
  for (const [action, { size }] of pins) expect(size, action).toBe(1);
});

test('what pull requests run can write nothing and knows no secret', () => {
  expect(Object.keys(ci.on)).toContain('pull_request');
  for (const { permissions } of Object.values(ci.jobs)) expect(permissions).toEqual({ contents: 'read' });
  expect(text(`${FOLDER}/ci.yaml`)).not.toMatch(/secrets\.|github\.token/);
});

test('the suite runs on every Node that is supported, from the oldest, on each push and pull request', () => {
  const { engines } = JSON.parse(text('package.json')) as { engines: { node: string } };
  expect(engines.node).toMatch(/^>=20\./);
  expect(ci.jobs['suite']?.strategy?.matrix?.['node']).toEqual([20, 22, 24]);
  expect(ci.jobs['suite']?.steps?.at(-1)?.run).toBe('.ci/run');
  expect(statSync(join(ROOT, '.ci/run')).mode & 0o111).not.toBe(0);
  expect(ci.on).toMatchObject({ push: { branches: ['main'] }, pull_request: null });
});

test('nothing is published but from a tag, and not before the suite has passed', () => {
  expect(release.on).toEqual({ push: { tags: ['v*'] } });
  expect(release.jobs['suite']?.uses).toBe('./.github/workflows/ci.yaml');
  const before = (name: string): string[] => {
    const needs = [release.jobs[name]?.needs ?? []].flat();
    return [...needs, ...needs.flatMap(before)];
  };
  const writing = Object.entries(release.jobs).filter(([, { permissions = {} }]) =>
    Object.values(permissions).includes('write'),
  );
  const rights = writing.map(([name, { permissions }]) => [name, Object.keys(permissions ?? {}).sort()]);
  expect(Object.fromEntries(rights)).toEqual({
    image: ['attestations', 'contents', 'id-token', 'packages'],
    chart: ['contents', 'packages'],
    draft: ['contents'],
  });
  for (const [name] of writing) expect(before(name), name).toEqual(expect.arrayContaining(['suite', 'version']));
});

test('a job that can change the repository installs no packages', () => {
  const changing = Object.values(release.jobs).filter(({ permissions }) => permissions?.['contents'] === 'write');
  expect(changing).toHaveLength(1);
  for (const { steps = [] } of changing)
    for (const { run = '' } of steps) expect(run).not.toMatch(/npm (?:ci|i|install|exec)|npx/);
});

test('the image is pushed with its origin and its SBOM, and none is taken from a cache', () => {
  const build = stepsOf(release).find(({ uses }) => uses?.startsWith('docker/build-push-action@'));
  expect(build?.with).toMatchObject({ push: true, sbom: true, provenance: 'mode=max', 'no-cache': true });
  for (const name of String(build?.with?.['build-args']).match(/[A-Z_]+(?==)/g) ?? []) {
    expect(text('Dockerfile')).toMatch(new RegExp(`^ARG ${name}\\b`, 'm'));
  }
});

test('what the workflows run is there', () => {
  const { scripts } = JSON.parse(text('package.json')) as { scripts: Record<string, string> };
  const run = [ci, release]
    .flatMap(stepsOf)
    .flatMap((step) => step.run ?? [])
    .join('\n');
  const named = [...run.matchAll(/npm run ([\w:]+)/g)].map(([, name = '']) => name);
  expect(named).toEqual(expect.arrayContaining(['audit', 'sbom']));
  for (const name of named) expect(scripts, name).toHaveProperty([name]);
  for (const [path] of run.matchAll(/scripts\/[\w/]+\.mjs|helm\/patchgate(?= )/g))
    expect(existsSync(join(ROOT, path)), path).toBe(true);
});

test('no registry is named: which one it is, the variables of the repository say', () => {
  const all = [...files.map((file) => `${FOLDER}/${file}`), '.github/dependabot.yml'].map(text).join('\n');
  expect(all).not.toMatch(/\b(?:[\w-]+\.)+(?:io|com|org|net|dev)\b/);
});

test('new versions of everything arrive grouped, and not on their first day', () => {
  const { version, updates } = parse(text('.github/dependabot.yml')) as {
    version: number;
    updates: { 'package-ecosystem': string; directory: string; cooldown: Record<string, number>; groups: object }[];
  };
  expect(version).toBe(2);
  expect(updates.map((each) => each['package-ecosystem'])).toEqual([
    'npm',
    'github-actions',
    'docker',
    'docker-compose',
  ]);
  for (const { cooldown, groups, directory } of updates) {
    expect(cooldown['default-days']).toBeGreaterThanOrEqual(7);
    expect(Object.keys(groups).length).toBeGreaterThan(0);
    expect(existsSync(join(ROOT, directory))).toBe(true);
  }
});
