import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import type { Sent } from '../../upstream/sender.ts';
import { Attempt } from './attempt.ts';

/** As undici calls it. */
function attempted() {
  let resolve: (sent: Sent) => void = () => {};
  const sent = new Promise<Sent>((resolved) => {
    resolve = resolved;
  });
  const request = {
    ...{ origin: 'http://upstream.test', method: 'POST', target: '/', headers: [], body: null },
    ...{ timeoutMs: 5_000, hangUp: null },
  };
  const attempt = new Attempt(request, systemClock, resolve);
  attempt.onConnect(() => {});
  attempt.onHeaders(200, [Buffer.from('Content-Length'), Buffer.from('100')], () => {});
  attempt.onData(Buffer.from('{"a":'));
  return { attempt, sent };
}

test('an answer that breaks in the turn it began in is a failure that may have been carried out, not half an answer', async () => {
  const { attempt, sent } = attempted();
  attempt.onError(new Error('other side closed'));
  expect(await sent).toMatchObject({ kind: 'failed', reason: 'protocol', mayHaveLeft: true });
});

test('an answer that breaks later is half an answer, and its reader hears of it', async () => {
  const { attempt, sent } = attempted();
  const { body } = (await sent) as Extract<Sent, { kind: 'answered' }>;
  attempt.onError(new Error('other side closed'));
  expect(body).toBeInstanceOf(Readable);
  await expect((body as Readable).toArray()).rejects.toThrow('other side closed');
});
