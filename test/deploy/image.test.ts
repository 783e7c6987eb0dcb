import { DockerfileParser } from 'dockerfile-ast';
import { validate } from 'dockerfile-utils';
import { describe, expect, test } from 'vitest';
import { buildContext, readDockerfile } from '../support/image.ts';

describe('the Dockerfile', () => {
  test('has no fault that a linter finds', async () => {
    expect(validate(await readDockerfile())).toEqual([]);
  });

  test('takes its bases as arguments, of a named version, so that a build can pin them by digest', async () => {
    const parsed = DockerfileParser.parse(await readDockerfile());
    const bases = parsed.getInitialARGs().map((arg) => arg.getProperty());
    expect(bases.map((each) => each?.getName())).toEqual(['BUILD_IMAGE', 'RUNTIME_IMAGE']);
    for (const base of bases) expect(base?.getValue()).toMatch(/^\S+node\S*24\S*:\S+$|^\S+\/node:24-\S+$/);
    const images = parsed.getFROMs().map((from) => from.getImage());
    expect(images).toEqual(['${BUILD_IMAGE}', 'source', 'source', '${RUNTIME_IMAGE}']);
  });

  test('needs no shell in its last stage: the base has none', async () => {
    const instructions = DockerfileParser.parse(await readDockerfile()).getInstructions();
    const last = instructions.slice(instructions.findLastIndex((each) => each.getKeyword() === 'FROM'));
    const commands = last.filter((each) => ['RUN', 'CMD', 'ENTRYPOINT', 'HEALTHCHECK'].includes(each.getKeyword()));
    expect(commands.map((each) => each.getKeyword()).sort()).toEqual(['CMD', 'ENTRYPOINT', 'HEALTHCHECK']);
    for (const each of commands) expect(each.getRawArgumentsContent()).toMatch(/\[.*\]$/);
  });
});

test('the build sees sources and the lock, and no key, configuration, test or repository', async () => {
  const context = await buildContext();
  expect(context.filter((path) => !path.startsWith('src/'))).toEqual([
    '.npmrc',
    'LICENSE',
    'deploy/image/health.mjs',
    'package-lock.json',
    'package.json',
    'scripts/build.mjs',
    'tsconfig.build.json',
    'tsconfig.json',
  ]);
  expect(context.filter((path) => path.endsWith('.test.ts'))).toEqual([]);
});
