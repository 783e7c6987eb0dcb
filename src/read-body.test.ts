import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../test/support/manual-clock.ts';
import { BodyMemory } from './body-memory.ts';
import { DisconnectSignal } from './context.ts';
import { bufferBody, collectBody } from './read-body.ts';

const of = (...chunks: string[]) => Readable.from(chunks.map((each) => Buffer.from(each)));
const collect = (source: Readable, limitBytes: number) => collectBody(source, { limitBytes, hasRoom: () => true });
const textOf = async (body: Readable) => Buffer.concat(await body.toArray()).toString();

describe('a body read into memory', () => {
  test('is read though no caller reads it', async () => {
    expect(await collect(of('one ', 'two'), 7)).toEqual({ kind: 'complete', body: Buffer.from('one two') });
    expect(await collect(of(), 0)).toEqual({ kind: 'complete', body: Buffer.alloc(0) });
  });

  test('above the limit is passed on complete', async () => {
    const captured = await collect(of('one ', 'two ', 'three'), 6);
    expect(captured).toMatchObject({ kind: 'partial', for: 'limit' });
    expect(captured.kind === 'partial' && (await textOf(captured.rest()))).toBe('one two three');
  });

  test('that breaks off is reported as broken', async () => {
    const source = new Readable({ read() {} });
    const capturing = collect(source, 100);
    source.push('one');
    await new Promise((resolve) => setImmediate(resolve));
    source.destroy(new Error('reset'));
    expect(await capturing).toEqual({ kind: 'broken', error: new Error('reset') });
  });

  test('that broke off before it is reported as broken', async () => {
    const source = new Readable({ read() {} }).on('error', () => {});
    source.destroy(new Error('reset'));
    await new Promise((resolve) => source.once('close', resolve));
    expect(await collect(source, 100)).toEqual({ kind: 'broken', error: new Error('the body broke off') });
  });

  test('above the limit destroys its source when its reader stops', async () => {
    const source = new Readable({ read() {} });
    const capturing = collect(source, 2);
    source.push('one');
    const captured = await capturing;
    if (captured.kind !== 'partial') throw new Error('not too large');
    const rest = captured.rest();
    rest.once('data', () => rest.destroy());
    await new Promise((resolve) => source.once('close', resolve));
    expect(source.destroyed).toBe(true);
  });

  test('is held back while it waits for room, and goes on when there is some', async () => {
    let answer: (fits: boolean) => void = () => {};
    let asked = 0;
    const source = of('one ', 'two ', 'three');
    const collecting = collectBody(source, {
      limitBytes: 100,
      hasRoom: () => {
        asked += 1;
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
    });
    for (let chunk = 1; chunk <= 3; chunk++) {
      while (asked < chunk) await new Promise((resolve) => setImmediate(resolve));
      expect(source.isPaused()).toBe(true);
      answer(true);
    }
    expect(await collecting).toEqual({ kind: 'complete', body: Buffer.from('one two three') });
  });

  test('for which there is no room is passed on complete', async () => {
    const collected = await collectBody(of('one ', 'two'), { limitBytes: 100, hasRoom: () => false });
    expect(collected).toMatchObject({ kind: 'partial', for: 'room' });
    expect(collected.kind === 'partial' && (await textOf(collected.rest()))).toBe('one two');
  });

  test('that is given up has no listener left, and what still arrives is dropped', async () => {
    const source = new Readable({ read() {} });
    let giveUp: (error: Error) => void = () => {};
    let cancelled = 0;
    const collecting = collectBody(source, {
      ...{ limitBytes: 100, hasRoom: () => true },
      until: (run) => {
        giveUp = run;
        return () => cancelled++;
      },
    });
    source.push('one');
    await new Promise((resolve) => setImmediate(resolve));
    giveUp(new Error('late'));
    expect(await collecting).toEqual({ kind: 'broken', error: new Error('late') });
    source.push('two');
    await new Promise((resolve) => setImmediate(resolve));
    expect([source.listenerCount('data'), source.readableLength, cancelled]).toEqual([0, 0, 1]);
  });
});

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
