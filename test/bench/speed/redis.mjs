// The Redis of those contestants that have one, beside the load; it counts what it is asked.
import { Redis } from 'ioredis';
import { freePort } from './rig.mjs';

/** @typedef {{ port: number, commands: () => Promise<number>, close: () => void }} BenchRedis */

/** @param {import('./rig.mjs').Rig} rig @returns {Promise<BenchRedis>} */
export async function startRedis(rig) {
  const port = await freePort();
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', rig.scratch, '--save', ''];
  rig.start('load', 'redis-server', args);
  const client = new Redis({ port, retryStrategy: () => 20, maxRetriesPerRequest: null });
  client.on('error', () => {});
  await client.ping();
  return {
    port,
    /** So far, of all kinds, this question included. */
    commands: async () => Number(/total_commands_processed:(\d+)/.exec(await client.info('stats'))?.[1]),
    close: () => client.disconnect(),
  };
}
