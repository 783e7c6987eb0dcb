import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { BILLING_KEY } from '../support/gateway.ts';
import { startGateway } from '../support/gateway-process.ts';

test('a 1 GiB download passes in constant memory', async () => {
  await using running = await startGateway();
  const highestRssMiB = async () => {
    const status = await readFile(`/proc/${running.process.child.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1024;
  };
  const download = async (size: number) => {
    const headers = { Authorization: BILLING_KEY };
    const response = await fetch(`${running.url}/api/v1/payload-metadata/1/download?bytes=${size}`, { headers });
    let bytes = 0;
    for await (const chunk of response.body!) bytes += chunk.length;
    expect(bytes).toBe(size);
  };
  // The first hundreds of megabytes grow the heap of a young process, whatever comes after them: how far is up to the garbage
  // collector, and on a busy machine that is late.
  await download(256 * 2 ** 20);
  const before = await highestRssMiB();
  await download(2 ** 30);
  expect((await highestRssMiB()) - before).toBeLessThan(40);
}, 120_000);
