import type { BeginResult, IdempotencyStore, KeyedWrite, RecordedResponse } from '../../../idempotency/store.ts';
import { type Client, loadScript, runForBytes } from '../client/scripts.ts';

const beginScript = loadScript(import.meta.url, 'begin');
const completeScript = loadScript(import.meta.url, 'complete');

const VERSION = '2';
/**
 * After a pause of this process that is longer than the deadline, of a garbage collection for example, a command fails although its reply
 * has arrived: timers run before sockets are read. A Redis that does not reply fails the second attempt too.
 */
const BEGIN_ATTEMPTS = 2;

/** The keyed writes of all replicas. A write is not begun while Redis is unavailable: another replica may have begun it. */
export function createRedisIdempotencyStore(options: {
  readonly client: Client;
  readonly isReady: () => boolean;
  readonly prefix: string;
  readonly keepMs: number;
}): IdempotencyStore {
  const { client, keepMs } = options;
  const keysOf = ({ account, id }: KeyedWrite) => [`${options.prefix}:{${account}}:idempotency:${id}`];

  return {
    async begin(write) {
      const args = [VERSION, write.fingerprint, write.owner, write.leaseMs, keepMs];
      for (let attempts = 0; attempts < BEGIN_ATTEMPTS && options.isReady(); attempts += 1) {
        try {
          return beginResultOf(await runForBytes(client, beginScript, keysOf(write), args));
        } catch {
          // The next attempt, or `unavailable`.
        }
      }
      return { kind: 'unavailable' };
    },
    async complete(write, outcome) {
      const response = outcome.kind === 'completed' ? outcome.response : null;
      const fields =
        response === null ? [] : [response.status, JSON.stringify(response.headers), response.body?.length ?? 0];
      const body = response === null || response.body === null ? [] : [response.body];
      try {
        await runForBytes(client, completeScript, keysOf(write), [
          ...[write.owner, keepMs, outcome.kind, VERSION, write.fingerprint, ...fields],
          ...body,
        ]);
        return true;
      } catch {
        return false;
      }
    },
  };
}

function beginResultOf(reply: unknown): BeginResult {
  const [kind, status, headers, bytes, body] = reply as (Buffer | null | undefined)[];
  switch (String(kind)) {
    case 'first':
    case 'conflict':
    case 'mismatch':
    case 'unknown':
      return { kind: String(kind) as 'first' | 'conflict' | 'mismatch' | 'unknown' };
    case 'replay': {
      const response = responseOf(Number(String(status)), String(headers), Number(String(bytes)), body ?? null);
      return response === null ? { kind: 'broken' } : { kind: 'replay', response };
    }
    default:
      return { kind: 'broken' };
  }
}

/** Null for a record that is not a response of ours. */
function responseOf(status: number, headers: string, bytes: number, body: Buffer | null): RecordedResponse | null {
  if (!Number.isInteger(status) || status < 200 || status > 599) return null;
  if (body !== null && body.length !== bytes) return null;
  try {
    const list: unknown = JSON.parse(headers);
    const valid = Array.isArray(list) && list.length % 2 === 0 && list.every((item) => typeof item === 'string');
    return valid ? { status, headers: list, body } : null;
  } catch {
    return null;
  }
}
