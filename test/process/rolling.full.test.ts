import { expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { rollingConfiguration, rollingReplacement } from '../chaos/rolling/course.mjs';
import { folder, patchgate, type Spawned } from '../support/process.ts';
import { redisServer } from '../support/redis.ts';

// Some 15 s: each replica needs its start, the delay of its drain, and an orderly end.
test('three replicas that share a Redis are replaced one by one under load, and no request fails', async () => {
  await using redis = await redisServer();
  const simulator = await createSimulator({
    switches: { limit: 1_000_000, responseLatency: { kind: 'exponential', minMs: 2, meanMs: 30, maxMs: 1_500 } },
  });
  const config = JSON.stringify(rollingConfiguration(simulator.url, redis.url));
  await using files = await folder({ 'gateway.yaml': config });
  const processes: Spawned[] = [];
  const boot = async () => {
    const process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path });
    processes.push(process);
    const { traffic, admin } = await process.listening();
    const stop = async () => {
      process.child.kill('SIGTERM');
      return (await process.exited).code;
    };
    return { port: traffic, adminPort: admin, stop };
  };
  try {
    const result = await rollingReplacement({ boot, replicas: 3, callers: 24 });
    process.stdout.write(`rolling replacement: ${JSON.stringify(result)}\n`);
    expect(result.failures).toEqual({});
    expect(result.exits).toEqual([0, 0, 0]);
    expect(result.requests).toBeGreaterThan(1_000);
    // Nor was any sent twice.
    const writes = simulator.arrivals().filter(({ method }) => method === 'POST');
    expect(writes).toHaveLength(result.writes);
    for (const { stdout } of processes) expect(stdout()).toContain('"msg":"drained"');
  } finally {
    await Promise.all(processes.map((process) => process[Symbol.asyncDispose]()));
    await simulator.close();
  }
}, 90_000);
