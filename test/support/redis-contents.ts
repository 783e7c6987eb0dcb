import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';
import type { Redis } from 'ioredis';

/** Every key of a server with its value, as text; compressed values also unpacked. */
export async function contentsOf(client: Redis): Promise<string> {
  const texts: string[] = [];
  for (const key of await client.keysBuffer('*')) {
    texts.push(key.toString('latin1'));
    for (const piece of await valuesOf(client, key)) texts.push(piece.toString('latin1'), ...unpacked(piece));
  }
  return texts.join('\n');
}

async function valuesOf(client: Redis, key: Buffer): Promise<Buffer[]> {
  switch (await client.type(key)) {
    case 'string':
      return [(await client.getBuffer(key)) ?? Buffer.alloc(0)];
    case 'hash':
      return Object.entries(await client.hgetallBuffer(key)).flatMap(([name, value]) => [Buffer.from(name), value]);
    case 'zset':
      return client.zrangeBuffer(key, '0', '-1');
    case 'set':
      return client.smembersBuffer(key);
    case 'list':
      return client.lrangeBuffer(key, 0, -1);
    case 'stream':
      return [Buffer.from(JSON.stringify(await client.xrange(key, '-', '+')))];
    default:
      return [];
  }
}

/** A value may have a head of its own before what is compressed. */
function unpacked(value: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; at < Math.min(value.length, 512); at++) {
    for (const unpack of [gunzipSync, inflateSync, brotliDecompressSync]) {
      if (unpack === gunzipSync && value[at] !== 0x1f) continue;
      if (unpack === inflateSync && value[at] !== 0x78) continue;
      try {
        found.push(unpack(value.subarray(at)).toString('latin1'));
      } catch {
        // Nothing compressed begins here.
      }
    }
  }
  return found;
}
