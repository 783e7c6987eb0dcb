import { closeSync, openSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { unzipTo } from '../../scripts/unzip.mjs';
import { folder } from '../support/process.ts';

const CONTENT = Buffer.from('what was packed '.repeat(1000));

test('a file comes out of an archive as it went in, packed or not', async () => {
  await using home = await folder({});
  const archive = zip([
    { name: 'a/first', method: 0 },
    { name: 'a/second', method: 8 },
  ]);
  await writeFile(join(home.path, 'x.zip'), archive);
  for (const name of ['a/first', 'a/second']) {
    expect((await taken(home.path, name)).equals(CONTENT)).toBe(true);
  }
});

test('one that is damaged, missing or no archive at all is refused', async () => {
  await using home = await folder({ 'x.zip': 'no archive' });
  await expect(taken(home.path, 'a')).rejects.toThrow('is no zip archive');
  const archive = zip([{ name: 'a', method: 0 }]);
  await writeFile(join(home.path, 'x.zip'), archive);
  await expect(taken(home.path, 'b')).rejects.toThrow('has no b');
  archive.writeUInt8(0, 40);
  await writeFile(join(home.path, 'x.zip'), archive);
  await expect(taken(home.path, 'a')).rejects.toThrow('a is damaged');
});

async function taken(path: string, name: string): Promise<Buffer> {
  const out = openSync(join(path, 'out'), 'w');
  try {
    unzipTo(join(path, 'x.zip'), name, out);
  } finally {
    closeSync(out);
  }
  return readFile(join(path, 'out'));
}

/** An archive as zip writes it: APPNOTE.TXT sections 4.3.7, 4.3.12 and 4.3.16, with the fields that are read. */
function zip(files: readonly { readonly name: string; readonly method: 0 | 8 }[]): Buffer {
  const parts: Buffer[] = [];
  const entries: Buffer[] = [];
  for (const { name, method } of files) {
    const packed = method === 8 ? deflateRawSync(CONTENT) : CONTENT;
    const offset = Buffer.concat(parts).length;
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(name.length, 26);
    // Longer than in the directory, as zip has it for times and owners.
    local.writeUInt16LE(4, 28);
    parts.push(local, Buffer.from(name), Buffer.alloc(4), packed);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(method, 10);
    entry.writeUInt32LE(crc32(CONTENT), 16);
    entry.writeUInt32LE(packed.length, 20);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(offset, 42);
    entries.push(entry, Buffer.from(name));
  }
  const content = Buffer.concat(parts);
  const directory = Buffer.concat(entries);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(content.length, 16);
  return Buffer.concat([content, directory, end]);
}
