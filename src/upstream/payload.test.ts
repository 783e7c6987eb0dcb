import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { Caller } from '../edge/caller.ts';
import type { Received } from '../exchange.ts';
import { readSmallBodies } from './payload.ts';

test('a caller who left before its body is read is refused, and nothing is sent', async () => {
  const caller = new Caller();
  caller.leave();
  const body = { declaredBytes: 2, open: () => Readable.from([]) };
  const stage = readSmallBodies<Received>({ replayBytes: 10 });
  let sent = 0;
  const handler = stage(() => {
    sent += 1;
    throw new Error('not to be reached');
  });
  const outcome = await handler({ body, hangUp: caller } as unknown as Received);
  expect([outcome.kind, sent]).toEqual(['refusal', 0]);
});
