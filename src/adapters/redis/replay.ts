import type { BeginResult, IdempotencyStore, KeyedWrite, RecordedResponse } from '../../idempotency/store.ts';
import { type Client, runForBytes, scripts } from './scripts.ts';

const VERSION = '1';

/**
 * The writes of all replicas. Where Redis does not answer, nobody can tell whether a write was begun elsewhere: then it is
 * not begun at all.
 */
export function createSharedReplays(options: {
  readonly client: Client;
  readonly isReady: () => boolean;
  readonly prefix: string;
  readonly keepMs: number;
}): IdempotencyStore {
  const { client, keepMs } = options;
  const keysOf = ({ account, id }: KeyedWrite) => [`${options.prefix}:{${account}}:replay:${id}`];

  return {
    async begin(claim) {
      if (!options.isReady()) return { kind: 'unavailable' };
      const args = [VERSION, claim.fingerprint, claim.owner, claim.leaseMs, keepMs];
      try {
        return begunOf(await runForBytes(client, scripts.beginReplay, keysOf(claim), args));
      } catch {
        return { kind: 'unavailable' };
      }
    },
    async complete(claim, ending) {
      const first = ending.kind === 'answered' ? ending.first : null;
      const told = first === null ? [] : [first.status, JSON.stringify(first.headers), first.body?.length ?? 0];
      const body = first === null || first.body === null ? [] : [first.body];
      try {
        await runForBytes(client, scripts.endReplay, keysOf(claim), [
          ...[claim.owner, keepMs, ending.kind, VERSION, claim.fingerprint, ...told],
          ...body,
        ]);
        return true;
      } catch {
        return false;
      }
    },
  };
}

function begunOf(reply: unknown): BeginResult {
  const [kind, status, headers, bytes, body] = reply as (Buffer | null | undefined)[];
  switch (String(kind)) {
    case 'go':
    case 'conflict':
    case 'mismatch':
    case 'unknown':
      return { kind: String(kind) as 'go' | 'conflict' | 'mismatch' | 'unknown' };
    case 'replay': {
      const first = firstOf(Number(String(status)), String(headers), Number(String(bytes)), body ?? null);
      return first === null ? { kind: 'broken' } : { kind: 'replay', first };
    }
    default:
      return { kind: 'broken' };
  }
}

function firstOf(status: number, headers: string, bytes: number, body: Buffer | null): RecordedResponse | null {
  if (!Number.isInteger(status) || status < 200 || status > 599) return null;
  if (body !== null && body.length !== bytes) return null;
  try {
    const list: unknown = JSON.parse(headers);
    const whole = Array.isArray(list) && list.length % 2 === 0 && list.every((item) => typeof item === 'string');
    return whole ? { status, headers: list, body } : null;
  } catch {
    return null;
  }
}
