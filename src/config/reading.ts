import { stat } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { type Loaded, type LoadOptions, loadSettings } from './load.ts';
import { type Packed, unpack } from './packed.ts';
import { recordingReader, type Seen } from './seen.ts';

export interface Reading {
  readonly loaded: Loaded;
  readonly seen: Seen;
}

type Where = Pick<LoadOptions, 'path' | 'env'>;

/**
 * YAML of 1 MiB (10,000 tenants) takes 2 s to parse and validate: in a process that serves, in a thread of its own. A thread
 * takes some 0.2 s to start, which smaller files are not worth.
 */
const WORTH_A_THREAD_BYTES = 32 * 1024;
const LONGEST_MS = 60_000;

/** @param before what the load before this one has read; empty for the first, when nobody waits for this process yet */
export async function readConfiguration(where: Where, before: Seen): Promise<Reading> {
  return (await sizeOf(before.keys())) > WORTH_A_THREAD_BYTES ? readAside(where) : readHere(where);
}

export async function readHere({ path, env }: Where): Promise<Reading> {
  const { readFile, seen } = recordingReader();
  return { loaded: await loadSettings({ path, env, readFile }), seen };
}

function readAside(where: Where): Promise<Reading> {
  const { path, env } = where;
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./reading-thread.js', import.meta.url), {
      workerData: { path, env: { ...env } },
    });
    const timer = setTimeout(() => {
      reject(new Error('the load did not end in time'));
      void worker.terminate();
    }, LONGEST_MS).unref();
    worker.once('message', (packed: Packed) => resolve(unpack(packed) as Reading));
    worker.once('error', reject);
    worker.once('exit', () => {
      clearTimeout(timer);
      reject(new Error('the load ended without a result'));
    });
    worker.unref();
  });
}

async function sizeOf(paths: Iterable<string>): Promise<number> {
  const sizes = await Promise.all(
    [...paths].map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
