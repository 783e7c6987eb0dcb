import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { RequestContext } from '../context.ts';
import { DisconnectSource } from '../server/request-context.ts';
import { bufferBody } from './request-body.ts';

test('a client that disconnects before its body is read is rejected, and nothing is sent', async () => {
  const caller = new DisconnectSource();
  caller.leave();
  const body = { declaredBytes: 2, open: () => Readable.from([]) };
  const middleware = bufferBody<RequestContext>({ bufferedBodyBytes: 10 });
  let sent = 0;
  const handler = middleware(async () => {
    sent += 1;
    throw new Error('unreachable');
  });
  const result = await handler({ body, disconnect: caller } as unknown as RequestContext);
  expect([result.kind, sent]).toEqual(['rejection', 0]);
});
