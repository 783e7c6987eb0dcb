import { parentPort, workerData } from 'node:worker_threads';
import { pack } from './packed.ts';
import { readHere } from './reading.ts';

/** Loads the configuration in a thread of its own, and sends what came of it: see reading.ts. */
const { path, env } = workerData as { path: string; env: Record<string, string | undefined> };
parentPort?.postMessage(pack(await readHere({ path, env })));
