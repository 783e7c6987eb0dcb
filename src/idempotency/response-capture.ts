import { Readable } from 'node:stream';
import type { HeldMemory } from '../body-memory.ts';
import { filterHeaders, type HeaderList, type ProxyResponse, type Result, reject, respond } from '../context.ts';
import { collectBody } from '../read-body.ts';
import type { WriteOutcome } from './store.ts';

/** Reads a response up to a limit, and as far as there is memory. Returns the result for the caller, and the outcome for the store. */
export async function captureResponse(
  response: ProxyResponse,
  limitBytes: number,
  held: HeldMemory,
): Promise<{ readonly result: Result; readonly outcome: WriteOutcome }> {
  const { status, headers, body } = response;
  if (!(body instanceof Readable)) {
    const fits = (body?.length ?? 0) <= limitBytes;
    return { result: response, outcome: completed(status, headers, fits ? (body ?? Buffer.alloc(0)) : null) };
  }
  const hasRoom = (bytes: number): boolean => held.tryTake(bytes - held.bytes);
  const captured = await collectBody(body, { limitBytes, hasRoom });
  switch (captured.kind) {
    case 'complete': {
      const result = respond(
        status,
        filterHeaders(headers, (name) => name !== 'content-length'),
        captured.body,
      );
      return { result, outcome: completed(status, headers, captured.body) };
    }
    case 'partial':
      return { result: respond(status, headers, captured.rest()), outcome: completed(status, headers, null) };
    case 'broken':
      return {
        result: reject('upstream_protocol', { internal: captured.error.message }),
        outcome: { kind: 'unknown' },
      };
  }
}

/** Fields that each response sets anew. Cookies, credentials and limits of the account were removed before. */
const OF_ONE_RESPONSE: ReadonlySet<string> = new Set([
  'content-length',
  'cache-status',
  'retry-after',
  'server-timing',
]);

function completed(status: number, headers: HeaderList, body: Buffer | null): WriteOutcome {
  const recorded = filterHeaders(headers, (name) => !OF_ONE_RESPONSE.has(name));
  return { kind: 'completed', response: { status, headers: recorded, body } };
}
