import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { captureBody } from './capture-body.ts';

const of = (...chunks: string[]) => Readable.from(chunks.map((each) => Buffer.from(each)));
const textOf = async (body: Readable) => Buffer.concat(await body.toArray()).toString();

describe('a body that is to be kept', () => {
  test('is read though nobody waits for it', async () => {
    expect(await captureBody(of('one ', 'two'), 7)).toEqual({ kind: 'whole', body: Buffer.from('one two') });
    expect(await captureBody(of(), 0)).toEqual({ kind: 'whole', body: Buffer.alloc(0) });
  });

  test('above the limit is passed on whole', async () => {
    const gathered = await captureBody(of('one ', 'two ', 'three'), 6);
    expect(gathered.kind).toBe('large');
    expect(gathered.kind === 'large' && (await textOf(gathered.body))).toBe('one two three');
  });

  test('that breaks off is known for it', async () => {
    const source = new Readable({ read() {} });
    const gathering = captureBody(source, 100);
    source.push('one');
    await new Promise((resolve) => setImmediate(resolve));
    source.destroy(new Error('reset'));
    expect(await gathering).toEqual({ kind: 'broken', reason: 'reset' });
  });

  test('that broke off before it was looked at is known for it', async () => {
    const source = new Readable({ read() {} }).on('error', () => {});
    source.destroy(new Error('reset'));
    await new Promise((resolve) => source.once('close', resolve));
    expect(await captureBody(source, 100)).toEqual({ kind: 'broken', reason: 'the body broke off' });
  });

  test('above the limit that nobody reads in the end frees what feeds it', async () => {
    const source = new Readable({ read() {} });
    const gathering = captureBody(source, 2);
    source.push('one');
    const gathered = await gathering;
    if (gathered.kind !== 'large') throw new Error('not large');
    gathered.body.once('data', () => gathered.body.destroy());
    await new Promise((resolve) => source.once('close', resolve));
    expect(source.destroyed).toBe(true);
  });
});
