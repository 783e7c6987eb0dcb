// Loaded into a gateway's process before its program: finds texts in all that its memory holds, without garbage.
import { Session } from 'node:inspector/promises';
import { getHeapSnapshot } from 'node:v8';

/** Runs in the heap of the process, with all living byte arrays as `this`. @type {(this: any, texts: string[]) => number[]} */
function countIn(texts) {
  // The prototype of Buffer is among them, and is none. The pool of small buffers has what was in it before; what is in use has an array.
  const arrays = [...this].filter(
    (each) => each instanceof Uint8Array && ArrayBuffer.isView(each) && each.byteLength !== Buffer.poolSize,
  );
  return texts.map((text) => {
    // Not in the pool of small buffers, in which it would find itself.
    const wanted = Buffer.alloc(Buffer.byteLength(text, 'base64'));
    wanted.write(text, 'base64');
    return arrays.filter(({ buffer, byteOffset, byteLength }) =>
      Buffer.from(buffer, byteOffset, byteLength).includes(wanted),
    ).length;
  });
}

/** The bodies of responses: their bytes are outside of a heap snapshot. @param {string[]} texts in base64 */
async function inBytes(texts) {
  const session = new Session();
  session.connect();
  const { result } = await session.post('Runtime.evaluate', { expression: 'Uint8Array.prototype' });
  const { objects } = await session.post('Runtime.queryObjects', { prototypeObjectId: String(result.objectId) });
  const { result: counts, exceptionDetails } = await session.post('Runtime.callFunctionOn', {
    ...(objects.objectId !== undefined && { objectId: objects.objectId }),
    functionDeclaration: String(countIn),
    arguments: [{ value: texts }],
    returnByValue: true,
  });
  session.disconnect();
  if (exceptionDetails !== undefined) throw new Error(exceptionDetails.exception?.description);
  return /** @type {number[]} */ (counts.value);
}

/** @param {string[]} texts in base64 */
async function inStrings(texts) {
  const pieces = [];
  // Before the texts are decoded: they would find themselves.
  for await (const piece of getHeapSnapshot()) pieces.push(piece);
  const snapshot = Buffer.concat(pieces);
  return texts.map((text) => (snapshot.includes(Buffer.from(text, 'base64')) ? 1 : 0));
}

process.on('message', async (/** @type {string[]} */ texts) => {
  process.send?.({ bytes: await inBytes(texts), strings: await inStrings(texts) });
});
process.channel?.unref();
