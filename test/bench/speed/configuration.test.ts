import { expect, test } from 'vitest';
import { folder, patchgate } from '../../support/process.ts';
import { configuration } from './contestants/gateway.mjs';

test.each([
  ['embedded', null],
  ['in Redis', 6_379],
])('the gateway takes the configuration that it is measured with, state %s', async (_, redis) => {
  const settings = configuration({ port: 1, admin: 2, upstream: 'http://127.0.0.1:3', redis, logLevel: 'info' });
  await using files = await folder({ 'gateway.yaml': JSON.stringify(settings) });
  await using check = patchgate(['check', '--config', 'gateway.yaml'], { cwd: files.path });
  expect([await check.exited, check.stderr()]).toEqual([{ code: 0, signal: null }, '']);
});
