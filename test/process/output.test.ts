import { expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { configuration } from '../support/gateway.ts';
import { folder, patchgate } from '../support/process.ts';
import { redisSentinel } from '../support/redis.ts';

test('all that a gateway writes while a Sentinel goes away is JSON, a line each, on standard output', async () => {
  await using set = await redisSentinel();
  const simulator = await createSimulator();
  const redis = { sentinels: set.sentinels, name: set.name };
  await using files = await folder({
    'gateway.yaml': JSON.stringify(configuration(simulator.url, { redis, log: { level: 'debug' } })),
  });
  await using gateway = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
  await gateway.waitFor(/"msg":"listening"/);
  await set.loseSentinel();
  // Whoever connects anew listens to all Sentinels, also to the one that is gone.
  await set.master.client().call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  await gateway.waitFor(/Unhandled error event.*ECONNREFUSED/);
  gateway.child.kill('SIGINT');
  expect(await gateway.exited).toMatchObject({ code: 0 });
  expect(gateway.stderr()).toBe('');
  const lines = gateway.stdout().trimEnd().split('\n');
  for (const line of lines) expect(JSON.parse(line), line).toHaveProperty('msg');
  await simulator.close();
}, 90_000);
