import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { BodyMemory } from '../body-memory.ts';
import { exactCopy, TeeBody } from './tee-body.ts';

/** A source that counts the chunks read from it. */
function counting(chunks: number, chunkBytes: number) {
  let taken = 0;
  const source = new Readable({
    read() {
      if (taken === chunks) this.push(null);
      else {
        taken++;
        this.push(Buffer.alloc(chunkBytes, taken));
      }
    },
  });
  return { source, taken: () => taken };
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

interface Options {
  readonly limitBytes?: number;
  readonly declaredBytes?: number;
  readonly others?: boolean;
  readonly totalBytes?: number;
}

/** The body as its reader gets it, and the copies copies to `onComplete`. */
function teeing(source: Readable, { limitBytes = 1e9, declaredBytes, others = false, totalBytes = 1e9 }: Options = {}) {
  const bodyMemory = new BodyMemory(totalBytes, new ManualClock());
  const copies: (string | null)[] = [];
  const passed = new TeeBody(source, {
    limitBytes,
    memory: bodyMemory.open('one'),
    declaredBytes: declaredBytes ?? null,
    onComplete: (body) => void copies.push(body === null ? null : String(body)),
    keepReading: () => others,
  });
  return { passed, copies, bodyMemory };
}

describe('a body that is passed on and copied', () => {
  test('is copied though its reader is slow', async () => {
    const { source, taken } = counting(100, 64 * 1024);
    const { passed, copies } = teeing(source);
    passed.once('readable', () => {});
    while (copies.length === 0) await settled();
    expect([taken(), copies[0]?.length]).toEqual([100, 100 * 64 * 1024]);
    passed.destroy();
  });

  test('holds memory until it is complete and its reader has closed', async () => {
    const { source } = counting(10, 1_000);
    const { passed, copies, bodyMemory } = teeing(source);
    passed.once('readable', () => {});
    while (copies.length === 0) await settled();
    expect(bodyMemory.bytes).toBe(10_000);
    expect(Buffer.concat(await passed.toArray()).length).toBe(10_000);
    await settled();
    expect(bodyMemory.bytes).toBe(0);
  });

  test('is not copied without memory for it: then its reader sets the pace', async () => {
    const { source, taken } = counting(100, 64 * 1024);
    const { passed, copies, bodyMemory } = teeing(source, { totalBytes: 512 * 1024 });
    passed.once('readable', () => {});
    while (copies.length === 0) await settled();
    expect(copies).toEqual([null]);
    expect(taken()).toBeLessThan(10);
    expect(bodyMemory.bytes).toBe(256 * 1024);
    expect(Buffer.concat(await passed.toArray()).length).toBe(100 * 64 * 1024);
    await settled();
    expect(bodyMemory.bytes).toBe(0);
  });

  test('that broke off before it was read is an error for the reader, and is not stored', async () => {
    const source = new Readable({ read() {} }).on('error', () => {});
    source.destroy(new Error('reset'));
    await new Promise((resolve) => source.once('close', resolve));
    const { passed, copies } = teeing(source);
    await new Promise((resolve) => passed.once('close', resolve));
    expect(copies).toEqual([null]);
  });

  test('above the limit waits for its reader: a reader that stops receives no more than the buffers hold', async () => {
    const { source, taken } = counting(1000, 64 * 1024);
    const { passed, copies } = teeing(source, { limitBytes: 1024 });
    passed.once('readable', () => {});
    for (let i = 0; i < 50; i++) await settled();
    expect(copies).toEqual([null]);
    expect(taken()).toBeLessThan(10);
    passed.destroy();
  });

  test('passes the first byte on before the second has arrived', async () => {
    const source = new Readable({ read() {} });
    const { passed } = teeing(source);
    source.push('a');
    const first = await new Promise((resolve) => passed.once('data', resolve));
    expect(String(first)).toBe('a');
    source.destroy();
  });

  test.each([4, undefined])('is copied before its reader has the last byte (declared: %s)', async (declaredBytes) => {
    const { passed, copies } = teeing(Readable.from([Buffer.from('ab'), Buffer.from('cd')]), {
      ...(declaredBytes !== undefined && { declaredBytes }),
    });
    const seen: string[] = [];
    let atTheEnd: unknown;
    passed.on('data', (chunk) => {
      seen.push(String(chunk));
      if (declaredBytes !== undefined && seen.join('').length === 4) atTheEnd = copies[0];
    });
    await new Promise((resolve) => passed.once('end', resolve));
    expect(declaredBytes === undefined ? copies[0] : atTheEnd).toBe('abcd');
  });

  test('with one byte too many or too few is passed on, and not copied', async () => {
    const large = teeing(Readable.from([Buffer.from('abcde')]), { limitBytes: 4 });
    const short = teeing(Readable.from([Buffer.from('abc')]), { declaredBytes: 4 });
    expect((await large.passed.toArray()).join('')).toBe('abcde');
    expect((await short.passed.toArray()).join('')).toBe('abc');
    expect([large.copies, short.copies]).toEqual([[null], [null]]);
  });

  test('destroys its source when the reader closes, unless others wait for the rest', async () => {
    const { source } = counting(1000, 1024);
    const { passed, copies } = teeing(source);
    passed.destroy();
    await new Promise<void>((resolve) => source.once('close', resolve));
    expect([source.destroyed, copies]).toEqual([true, [null]]);

    const wanted = teeing(counting(10, 10).source, { others: true });
    wanted.passed.destroy();
    while (wanted.copies.length === 0) await settled();
    expect(wanted.copies[0]?.length).toBe(100);
  });

  test('destroys its source when the others disconnect too', async () => {
    const source = new Readable({ read() {} });
    const { passed, copies } = teeing(source, { others: true });
    passed.destroy();
    await settled();
    expect(source.destroyed).toBe(false);
    passed.abandon();
    expect([source.destroyed, copies]).toEqual([true, [null]]);
  });

  test('that breaks off is an error for the reader, never an end', async () => {
    const source = new Readable({ read() {} });
    const { passed, copies } = teeing(source);
    const failed = expect(passed.toArray()).rejects.toThrow('reset');
    source.push('a');
    source.destroy(new Error('reset'));
    await failed;
    expect(copies).toEqual([null]);
  });
});

test('a copy has its own memory and no more', () => {
  const window = Buffer.alloc(64 * 1024).subarray(10, 20);
  expect(exactCopy([window], window.length).buffer.byteLength).toBe(10);
});
