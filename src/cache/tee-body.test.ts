import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { exactCopy, teeBody } from './tee-body.ts';

/** A source that counts what was taken from it. */
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

interface Kept {
  readonly limitBytes?: number;
  readonly declaredBytes?: number;
  readonly others?: boolean;
}

/** The body as it is passed on, and what was handed over: undefined for not yet. */
function collecting(source: Readable, { limitBytes = 1e9, declaredBytes, others = false }: Kept = {}) {
  const handed: (string | null)[] = [];
  const passed = teeBody(source, {
    limitBytes,
    declaredBytes: declaredBytes ?? null,
    onComplete: (body) => void handed.push(body === null ? null : String(body)),
    keepReading: () => others,
  });
  return { passed, handed };
}

describe('a body that is passed on and collected', () => {
  test('is read to its end though its reader is slow', async () => {
    const { source, taken } = counting(100, 64 * 1024);
    const { passed, handed } = collecting(source);
    passed.once('readable', () => {});
    while (handed.length === 0) await settled();
    expect([taken(), handed[0]?.length]).toEqual([100, 100 * 64 * 1024]);
    passed.destroy();
  });

  test('that broke before it was looked at breaks for its reader too, and is not kept', async () => {
    const source = new Readable({ read() {} }).on('error', () => {});
    source.destroy(new Error('reset'));
    await new Promise((resolve) => source.once('close', resolve));
    const { passed, handed } = collecting(source);
    await new Promise((resolve) => passed.once('close', resolve));
    expect(handed).toEqual([null]);
  });

  test('above the limit waits for its reader: one who stops takes no more than the buffers hold', async () => {
    const { source, taken } = counting(1000, 64 * 1024);
    const { passed, handed } = collecting(source, { limitBytes: 1024 });
    passed.once('readable', () => {});
    for (let i = 0; i < 50; i++) await settled();
    expect(handed).toEqual([null]);
    expect(taken()).toBeLessThan(10);
    passed.destroy();
  });

  test('passes the first byte on before the second is there', async () => {
    const source = new Readable({ read() {} });
    const { passed } = collecting(source);
    source.push('a');
    const first = await new Promise((resolve) => passed.once('data', resolve));
    expect(String(first)).toBe('a');
    source.destroy();
  });

  test.each([4, undefined])('is handed over before its reader has all of it (declared: %s)', async (declaredBytes) => {
    const { passed, handed } = collecting(Readable.from([Buffer.from('ab'), Buffer.from('cd')]), {
      ...(declaredBytes !== undefined && { declaredBytes }),
    });
    const seen: string[] = [];
    let atTheEnd: unknown;
    passed.on('data', (chunk) => {
      seen.push(String(chunk));
      if (declaredBytes !== undefined && seen.join('').length === 4) atTheEnd = handed[0];
    });
    await new Promise((resolve) => passed.once('end', resolve));
    expect(declaredBytes === undefined ? handed[0] : atTheEnd).toBe('abcd');
  });

  test('one byte too many, or too few, is passed on, and not handed over', async () => {
    const large = collecting(Readable.from([Buffer.from('abcde')]), { limitBytes: 4 });
    const short = collecting(Readable.from([Buffer.from('abc')]), { declaredBytes: 4 });
    expect((await large.passed.toArray()).join('')).toBe('abcde');
    expect((await short.passed.toArray()).join('')).toBe('abc');
    expect([large.handed, short.handed]).toEqual([[null], [null]]);
  });

  test('a reader who leaves frees what feeds it, unless others wait for the rest', async () => {
    const { source } = counting(1000, 1024);
    const { passed, handed } = collecting(source);
    passed.destroy();
    await new Promise<void>((resolve) => source.once('close', resolve));
    expect([source.destroyed, handed]).toEqual([true, [null]]);

    const wanted = collecting(counting(10, 10).source, { others: true });
    wanted.passed.destroy();
    while (wanted.handed.length === 0) await settled();
    expect(wanted.handed[0]?.length).toBe(100);
  });

  test('is given up when the others leave too', async () => {
    const source = new Readable({ read() {} });
    const { passed, handed } = collecting(source, { others: true });
    passed.destroy();
    await settled();
    expect(source.destroyed).toBe(false);
    passed.abandon();
    expect([source.destroyed, handed]).toEqual([true, [null]]);
  });

  test('one that breaks reaches its reader as an error, never as an end', async () => {
    const source = new Readable({ read() {} });
    const { passed, handed } = collecting(source);
    const failed = expect(passed.toArray()).rejects.toThrow('reset');
    source.push('a');
    source.destroy(new Error('reset'));
    await failed;
    expect(handed).toEqual([null]);
  });
});

test('a kept body holds its own bytes and no more', () => {
  const window = Buffer.alloc(64 * 1024).subarray(10, 20);
  expect(exactCopy([window], window.length).buffer.byteLength).toBe(10);
});
