import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import type { TransportResult } from '../../upstream/transport.ts';
import { Attempt } from './attempt.ts';

/** As undici calls it. */
function attempted() {
  let resolve: (sent: TransportResult) => void = () => {};
  const sent = new Promise<TransportResult>((resolved) => {
    resolve = resolved;
  });
  const request = {
    ...{ origin: 'http://upstream.test', method: 'POST', target: '/', headers: [], body: null },
    ...{ timeoutMs: 5_000, disconnect: null },
  };
  const attempt = new Attempt(request, systemClock, resolve);
  const controller: Dispatcher.DispatchController = {
    ...{ aborted: false, paused: false, reason: null, abort: () => {}, pause: () => {}, resume: () => {} },
    rawHeaders: [Buffer.from('Content-Length'), Buffer.from('100')],
  };
  attempt.onRequestStart(controller);
  attempt.onResponseStart(controller, 200);
  attempt.onResponseData(controller, Buffer.from('{"a":'));
  const breakOff = (): void => attempt.onResponseError(controller, new Error('other side closed'));
  return { breakOff, sent };
}

test('an answer that breaks in the turn it began in is a failure that may have been carried out, not half an answer', async () => {
  const { breakOff, sent } = attempted();
  breakOff();
  expect(await sent).toMatchObject({ kind: 'failed', reason: 'protocol', mayHaveLeft: true });
});

test('an answer that breaks later is half an answer, and its reader hears of it', async () => {
  const { breakOff, sent } = attempted();
  const { body } = (await sent) as Extract<TransportResult, { kind: 'answered' }>;
  breakOff();
  expect(body).toBeInstanceOf(Readable);
  await expect((body as Readable).toArray()).rejects.toThrow('other side closed');
});
