import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { captureBody } from './response-capture.ts';

const of = (...chunks: string[]) => Readable.from(chunks.map((each) => Buffer.from(each)));
const textOf = async (body: Readable) => Buffer.concat(await body.toArray()).toString();

describe('a captured body', () => {
  test('is read though no caller reads it', async () => {
    expect(await captureBody(of('one ', 'two'), 7)).toEqual({ kind: 'complete', body: Buffer.from('one two') });
    expect(await captureBody(of(), 0)).toEqual({ kind: 'complete', body: Buffer.alloc(0) });
  });

  test('above the limit is passed on complete', async () => {
    const captured = await captureBody(of('one ', 'two ', 'three'), 6);
    expect(captured.kind).toBe('too_large');
    expect(captured.kind === 'too_large' && (await textOf(captured.body))).toBe('one two three');
  });

  test('that breaks off is reported as broken', async () => {
    const source = new Readable({ read() {} });
    const capturing = captureBody(source, 100);
    source.push('one');
    await new Promise((resolve) => setImmediate(resolve));
    source.destroy(new Error('reset'));
    expect(await capturing).toEqual({ kind: 'broken', reason: 'reset' });
  });

  test('that broke off before the capture is reported as broken', async () => {
    const source = new Readable({ read() {} }).on('error', () => {});
    source.destroy(new Error('reset'));
    await new Promise((resolve) => source.once('close', resolve));
    expect(await captureBody(source, 100)).toEqual({ kind: 'broken', reason: 'the body broke off' });
  });

  test('above the limit destroys its source when its reader stops', async () => {
    const source = new Readable({ read() {} });
    const capturing = captureBody(source, 2);
    source.push('one');
    const captured = await capturing;
    if (captured.kind !== 'too_large') throw new Error('not too large');
    captured.body.once('data', () => captured.body.destroy());
    await new Promise((resolve) => source.once('close', resolve));
    expect(source.destroyed).toBe(true);
  });
});
