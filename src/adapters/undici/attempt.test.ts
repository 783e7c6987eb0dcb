import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import type { Sent } from '../../upstream/sender.ts';
import { Attempt } from './attempt.ts';

/** As undici calls it: with a controller of its own. */
function attempted() {
  let resolve: (sent: Sent) => void = () => {};
  const sent = new Promise<Sent>((resolved) => {
    resolve = resolved;
  });
  const controller: Dispatcher.DispatchController = {
    aborted: false,
    paused: false,
    reason: null,
    rawHeaders: [Buffer.from('Content-Length'), Buffer.from('100')],
    abort() {},
    pause() {},
    resume() {},
  };
  const request = {
    ...{ origin: 'http://upstream.test', method: 'POST', target: '/', headers: [], body: null },
    ...{ timeoutMs: 5_000, hangUp: null },
  };
  const attempt = new Attempt(request, systemClock, resolve);
  attempt.onRequestStart(controller);
  attempt.onResponseStart(controller, 200);
  attempt.onResponseData(controller, Buffer.from('{"a":'));
  return { attempt, controller, sent };
}

test('an answer that breaks in the turn it began in is a failure that may have been carried out, not half an answer', async () => {
  const { attempt, controller, sent } = attempted();
  attempt.onResponseError(controller, new Error('other side closed'));
  expect(await sent).toMatchObject({ kind: 'failed', reason: 'protocol', mayHaveLeft: true });
});

test('an answer that breaks later is half an answer, and its reader hears of it', async () => {
  const { attempt, controller, sent } = attempted();
  const { body } = (await sent) as Extract<Sent, { kind: 'answered' }>;
  attempt.onResponseError(controller, new Error('other side closed'));
  expect(body).toBeInstanceOf(Readable);
  await expect((body as Readable).toArray()).rejects.toThrow('other side closed');
});
