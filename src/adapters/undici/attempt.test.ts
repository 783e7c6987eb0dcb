import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { expect, test } from 'vitest';
import { systemClock } from '../../clock.ts';
import { NEVER_DISCONNECTS } from '../../context.ts';
import type { TransportResponse, TransportResult } from '../../upstream/transport.ts';
import { Attempt } from './attempt.ts';

/** An attempt whose response has begun, driven as undici drives it. */
function beganResponse() {
  let resolve: (sent: TransportResult) => void = () => {};
  const sent = new Promise<TransportResult>((resolved) => {
    resolve = resolved;
  });
  const request = {
    ...{ origin: 'http://upstream.test', method: 'POST', target: '/', headers: [], body: null },
    ...{ timeoutMs: 5_000, disconnect: NEVER_DISCONNECTS },
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

test('a response that breaks in the turn of its headers is a failure that may have been carried out, not a partial response', async () => {
  const { breakOff, sent } = beganResponse();
  breakOff();
  expect(await sent).toMatchObject({ kind: 'failed', reason: 'protocol', mayBeSent: true });
});

test('a response that breaks later is a partial response, and its reader receives the error', async () => {
  const { breakOff, sent } = beganResponse();
  const { body } = (await sent) as TransportResponse;
  breakOff();
  expect(body).toBeInstanceOf(Readable);
  await expect((body as Readable).toArray()).rejects.toThrow('other side closed');
});
