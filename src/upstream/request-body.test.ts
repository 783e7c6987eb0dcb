import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { RequestContext } from '../context.ts';
import { Caller } from '../server/request-context.ts';
import { bufferBody } from './request-body.ts';

test('a caller who left before its body is read is refused, and nothing is sent', async () => {
  const caller = new Caller();
  caller.leave();
  const body = { declaredBytes: 2, open: () => Readable.from([]) };
  const stage = bufferBody<RequestContext>({ bufferedBodyBytes: 10 });
  let sent = 0;
  const handler = stage(() => {
    sent += 1;
    throw new Error('not to be reached');
  });
  const outcome = await handler({ body, disconnect: caller } as unknown as RequestContext);
  expect([outcome.kind, sent]).toEqual(['rejection', 0]);
});
