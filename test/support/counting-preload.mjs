// Loaded into a gateway's process before its program: counts what is allocated between two messages of its parent.
import { PerformanceObserver } from 'node:perf_hooks';

let collections = 0;
new PerformanceObserver((list) => {
  collections += list.getEntries().length;
}).observe({ entryTypes: ['gc'] });

/** @type {{ heap: number, buffers: number } | null} */
let begun = null;
const usage = () => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { heap: heapUsed, buffers: arrayBuffers };
};
// Entries of the observer come a turn later.
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

process.on('message', async (/** @type {'begin' | 'end'} */ word) => {
  if (word === 'begin') {
    globalThis.gc?.();
    await settled();
    collections = 0;
    begun = usage();
    process.send?.({ begun: true });
  } else if (begun !== null) {
    const now = usage();
    await settled();
    process.send?.({ heap: now.heap - begun.heap, buffers: now.buffers - begun.buffers, collections });
  }
});
// The gateway ends when it wants to, not when its parent does.
process.channel?.unref();
