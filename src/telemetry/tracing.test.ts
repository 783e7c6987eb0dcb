import { expect, test } from 'vitest';
import { collector } from '../../test/support/otlp-collector.ts';
import { createTracer, MAX_PENDING } from './tracing.ts';

test('more spans than are kept are dropped and counted, and those that are kept are sent', async () => {
  await using receiver = await collector();
  const counted = { exported: 0, failed: 0, dropped: 0 };
  const tracer = createTracer({
    ...{ endpoint: receiver.endpoint, headers: {}, sample: 1, serviceName: 'test', version: '1' },
    meter: {
      spans(outcome, count) {
        counted[outcome] += count;
      },
    },
    log: { info: () => {}, warn: () => {} },
  });
  // Within one turn of the event loop: none can have been delivered meanwhile.
  for (let i = 0; i < MAX_PENDING + 1_000; i++) tracer.request({})?.end();
  expect(counted).toEqual({ exported: 0, failed: 0, dropped: 1_000 });
  await tracer.stop();
  expect(counted).toEqual({ exported: MAX_PENDING, failed: 0, dropped: 1_000 });
  expect(receiver.spans()).toHaveLength(MAX_PENDING);
});
