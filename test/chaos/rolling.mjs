// Replaces three real gateways on a real Redis one by one, over and over, under load; counts what callers lose. Loopback only;
// ends by itself; kills only what it started.
//
//     npm run chaos:rolling -- --rounds 10 --callers 60 --rare 20
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startRedisSet } from './redis-sets.mjs';
import { cleanUp, cleanUpAtTheEnd, end, MAIN, scratch, start } from './rig.mjs';
import { rollingConfiguration, rollingReplacement } from './rolling/course.mjs';

// The built product: by a path that the type checker does not follow.
const built = fileURLToPath(new URL('../../dist/simulator/simulator.js', import.meta.url));
const { createSimulator } = await import(built);

cleanUpAtTheEnd();
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    callers: { type: 'string', default: '40' },
    // Callers whose connections are silent for longer than drain.delay: see docs/decisions/0013.
    rare: { type: 'string', default: '0' },
  },
});

const simulator = await createSimulator({
  switches: { limit: 1_000_000, responseLatency: { kind: 'exponential', minMs: 2, meanMs: 60, maxMs: 5_000 } },
});
const [redis] = (await startRedisSet('alone')).nodes;
const file = join(scratch, 'gateway.json');
writeFileSync(file, JSON.stringify(rollingConfiguration(simulator.url, `redis://127.0.0.1:${redis?.port}`)));

/** @returns {Promise<import('./rolling/balancer.mjs').Replica>} */
async function boot() {
  const child = start(process.execPath, [MAIN, 'serve', '--config', file]);
  child.stderr?.pipe(process.stderr);
  const line = await new Promise((/** @type {(line: string) => void} */ resolve) => {
    let text = '';
    child.stdout?.on('data', (chunk) => {
      if (text.includes('"msg":"listening"')) return;
      text += chunk;
      const found = text.split('\n').find((each) => each.includes('"msg":"listening"') && each.endsWith('}'));
      if (found !== undefined) resolve(found);
    });
  });
  const { traffic, admin } = JSON.parse(line);
  const stop = async () => {
    await end(child, 'SIGTERM');
    return child.exitCode;
  };
  return { port: traffic.port, adminPort: admin.port, stop };
}

const result = await rollingReplacement({
  boot,
  replicas: 3,
  rounds: Number(values.rounds),
  callers: Number(values.callers),
  rare: Number(values.rare),
  onRound: ({ requests, failures }) =>
    process.stdout.write(`${requests} requests, failures: ${JSON.stringify(failures)}\n`),
});
const writes = simulator.arrivals().filter((/** @type {{ method: string }} */ { method }) => method === 'POST').length;
process.stdout.write(`${JSON.stringify({ ...result, writesArrived: writes })}\n`);
await simulator.close();
cleanUp();
const held = result.failed === 0 && result.exits.every((code) => code === 0) && writes === result.writes;
process.stdout.write(held ? 'held\n' : 'FAILED: a caller lost a request, or one was sent twice\n');
process.exit(held ? 0 : 1);
