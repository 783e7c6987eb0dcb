import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { exactCopy, tee } from './tee.ts';

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

describe('a body that is passed on and copied', () => {
  test('waits for its reader: one who stops takes no more than the buffers hold', async () => {
    const { source, taken } = counting(1000, 64 * 1024);
    const copy = tee(source, 1e9, () => expect.unreachable());
    copy.once('readable', () => {});
    for (let i = 0; i < 20; i++) await settled();
    expect(taken()).toBeLessThan(10);
    copy.destroy();
  });

  test('passes the first byte on before the second is there', async () => {
    const source = new Readable({ read() {} });
    const copy = tee(source, 100, () => {});
    source.push('a');
    const first = await new Promise((resolve) => copy.once('data', resolve));
    expect(String(first)).toBe('a');
    source.destroy();
    copy.once('error', () => {});
  });

  test('is handed over before its reader sees the end', async () => {
    let whole = '';
    const copy = tee(Readable.from([Buffer.from('ab'), Buffer.from('cd')]), 4, (body) => {
      whole = String(body);
    });
    const seen = new Promise<string>((resolve) => copy.once('end', () => resolve(whole)));
    copy.resume();
    expect(await seen).toBe('abcd');
  });

  test('one byte too many is passed on, and not handed over', async () => {
    const copy = tee(Readable.from([Buffer.from('abcde')]), 4, () => expect.unreachable());
    expect((await copy.toArray()).join('')).toBe('abcde');
  });

  test('a reader who leaves frees what feeds it', async () => {
    const { source } = counting(1000, 1024);
    const copy = tee(source, 1e9, () => expect.unreachable());
    copy.destroy();
    await new Promise<void>((resolve) => source.once('close', resolve));
    expect(source.destroyed).toBe(true);
  });

  test('one that breaks reaches its reader as an error, never as an end', async () => {
    const source = new Readable({ read() {} });
    const copy = tee(source, 100, () => expect.unreachable());
    const failed = expect(copy.toArray()).rejects.toThrow('reset');
    source.push('a');
    source.destroy(new Error('reset'));
    await failed;
  });
});

test('a kept body holds its own bytes and no more', () => {
  const window = Buffer.alloc(64 * 1024).subarray(10, 20);
  expect(exactCopy([window], window.length).buffer.byteLength).toBe(10);
});
