// Loaded into the gateway's process before its program. Counts the calls of its functions between two messages of its parent.
import { Session } from 'node:inspector/promises';

const session = new Session();
session.connect();
await session.post('Profiler.enable');
// Every function is counted, and none is inlined or collected while this is on.
await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });

process.on('message', async () => {
  // Taking the counts sets them to zero.
  const { result } = await session.post('Profiler.takePreciseCoverage');
  process.send?.(result);
});
// A gateway that cannot start ends all the same.
process.channel?.unref();
