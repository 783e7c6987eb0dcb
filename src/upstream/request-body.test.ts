import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { BodyMemory } from '../body-memory.ts';
import { DisconnectSignal } from '../context.ts';
import { bufferBody } from './request-body.ts';

test('a client that disconnects before its body is read is rejected, nothing is sent, and no memory is held', async () => {
  const caller = new DisconnectSignal();
  caller.leave();
  const clock = new ManualClock();
  const bodyMemory = new BodyMemory(1_000, clock);
  const middleware = bufferBody({ bufferedBodyBytes: 10, bodyMemory, clock });
  let sent = 0;
  const handler = middleware(async () => {
    sent += 1;
    throw new Error('unreachable');
  });
  const body = { declaredBytes: 2, open: () => Readable.from([]) };
  const route = { upstream: { timeoutMs: 1_000 } };
  const context = {
    body,
    route,
    disconnect: caller,
    tenant: { id: 'one', quota: { maxWaitMs: 0 } },
    record: { waitMs: 0 },
  };
  const result = await handler(context as unknown as Parameters<typeof handler>[0]);
  expect([result.kind, sent, bodyMemory.bytes, clock.pending]).toEqual(['rejection', 0, 0, 0]);
});
