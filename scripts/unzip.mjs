// Takes single files out of a zip archive with what Node has: a fresh machine need not have unzip.
import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { crc32, inflateRawSync } from 'node:zlib';

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const END_BYTES = 22;
const LONGEST_COMMENT = 65_535;

/**
 * Writes one file of an archive to another place. No zip64, no encryption.
 * @param {string} archive
 * @param {string} name as in the archive
 * @param {number} to open for writing
 */
export function unzipTo(archive, name, to) {
  const fd = openSync(archive, 'r');
  try {
    const entry = entriesOf(fd, statSync(archive).size).find((each) => each.name === name);
    if (entry === undefined) throw new Error(`${archive} has no ${name}`);
    // The header before the content repeats the name, with an extra field of another length.
    const header = readAt(fd, entry.offset, 30);
    const from = entry.offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    const packed = readAt(fd, from, entry.packedBytes);
    if (entry.method !== 0 && entry.method !== 8) throw new Error(`${name} is packed by method ${entry.method}`);
    const content = entry.method === 0 ? packed : inflateRawSync(packed);
    if (crc32(content) !== entry.crc) throw new Error(`${name} is damaged in ${archive}`);
    for (let at = 0; at < content.length; ) at += writeSync(to, content, at);
  } finally {
    closeSync(fd);
  }
}

/** @param {number} fd @param {number} bytes */
function entriesOf(fd, bytes) {
  const tail = readAt(
    fd,
    Math.max(0, bytes - END_BYTES - LONGEST_COMMENT),
    Math.min(bytes, END_BYTES + LONGEST_COMMENT),
  );
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END) end--;
  if (end < 0) throw new Error('is no zip archive');
  const directory = readAt(fd, tail.readUInt32LE(end + 16), tail.readUInt32LE(end + 12));
  const entries = [];
  for (let at = 0; at < directory.length && directory.readUInt32LE(at) === ENTRY; ) {
    const [name, extra, comment] = [28, 30, 32].map((field) => directory.readUInt16LE(at + field));
    entries.push({
      name: directory.toString('utf8', at + 46, at + 46 + Number(name)),
      method: directory.readUInt16LE(at + 10),
      crc: directory.readUInt32LE(at + 16),
      packedBytes: directory.readUInt32LE(at + 20),
      offset: directory.readUInt32LE(at + 42),
    });
    at += 46 + Number(name) + Number(extra) + Number(comment);
  }
  return entries;
}

/** @param {number} fd @param {number} from @param {number} bytes */
function readAt(fd, from, bytes) {
  const buffer = Buffer.alloc(bytes);
  for (let got = 0; got < bytes; ) {
    const read = readSync(fd, buffer, got, bytes - got, from + got);
    if (read === 0) throw new Error('ends too early');
    got += read;
  }
  return buffer;
}
