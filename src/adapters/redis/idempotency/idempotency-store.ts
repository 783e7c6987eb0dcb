import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { type Clock, elapsed } from '../../../clock.ts';
import type {
  BeginResult,
  IdempotencyStore,
  KeyedWrite,
  RecordedResponse,
  WriteOutcome,
} from '../../../idempotency/store.ts';
import { type Client, loadScript, parseJson, runScript } from '../client/scripts.ts';
import { Reentry } from './reentry.ts';

const lookScript = loadScript(import.meta.url, 'state', 'look');
const beginScript = loadScript(import.meta.url, 'state', 'begin');
const completeScript = loadScript(import.meta.url, 'complete');

const VERSION = '2';
/**
 * After a pause of this process that is longer than the deadline, of a garbage collection for example, a command fails although its reply
 * has arrived: timers run before sockets are read. A Redis that does not reply fails the second attempt too.
 */
const BEGIN_ATTEMPTS = 2;
/** Replicas look for another server twice a second, and reconnect as often. */
const OTHERS_COME_MS = 2_000;
/** For a server that is left for another meanwhile. */
const MAX_WAITS = 3;

export interface RedisIdempotencyOptions {
  readonly client: Client;
  readonly isReady: () => boolean;
  readonly prefix: string;
  readonly keepMs: number;
  /** For the bodies of one tenant. Beyond it, status and headers are kept alone. */
  readonly tenantBytes: number;
  readonly clock: Clock;
  /** How long another server waits for the replicas to enter their recent writes. Tests have no other replicas. */
  readonly othersComeMs?: number;
}

export interface RedisIdempotencyStore extends IdempotencyStore {
  /** Looks at once whether these accounts are on another server now, or on one that was emptied. */
  check(accounts: Iterable<string>): void;
  stop(): void;
}

type Begun = BeginResult | { readonly kind: 'closed'; readonly waitMs: number; readonly entered: Promise<void> };

/** The keyed writes of all replicas. A write is not begun while Redis is unavailable: another replica may have begun it. */
export function createRedisIdempotencyStore(options: RedisIdempotencyOptions): RedisIdempotencyStore {
  const { clock, isReady } = options;
  const commands = commandsOf(options);
  const reentry = new Reentry({
    ...{ clock, isReady },
    look: (account, known) => commands.look(account, known),
    // The command that it has begun or ended with: both do nothing where the server knows it.
    enter: ({ write, outcome, leaseEnd }, known) => {
      if (outcome !== null) return commands.complete(write, outcome);
      const leaseMs = Math.max(0, Math.ceil(leaseEnd - clock.monotonic()));
      return commands.begin({ ...write, leaseMs }, known, true);
    },
  });

  const begin = async (write: KeyedWrite): Promise<Begun> => {
    const { kind, state, rest } = await commands.begin(write, reentry.known(write.account), false);
    if (kind === 'first') reentry.begun(write, state);
    const entered = reentry.learn(write.account, state);
    return kind === 'closed' ? { kind, waitMs: Number(rest[0]), entered } : beginResultOf(kind, rest);
  };

  return {
    async begin(write) {
      let [failures, waits] = [0, 0];
      while (failures < BEGIN_ATTEMPTS && waits < MAX_WAITS && isReady()) {
        try {
          const begun = await begin(write);
          if (begun.kind !== 'closed') return begun;
          waits += 1;
          await Promise.all([begun.entered, elapsed(clock, begun.waitMs)]);
        } catch {
          // The next attempt, or `unavailable`.
          failures += 1;
        }
      }
      return { kind: 'unavailable' };
    },
    async complete(write, outcome) {
      reentry.ended(write, outcome);
      try {
        await commands.complete(write, outcome);
        return true;
      } catch {
        return false;
      }
    },
    check: (accounts) => {
      for (const account of accounts) reentry.check(account);
    },
    stop: () => reentry.stop(),
  };
}

/** The scripts of this folder. Each rejects if Redis does not reply. */
function commandsOf({ client, prefix, keepMs, tenantBytes, othersComeMs = OTHERS_COME_MS }: RedisIdempotencyOptions) {
  const key = (account: string, name: string): string => `${prefix}:{${account}}:idempotency:${name}`;
  /** The first arguments of a script that has state.lua in front. */
  const stateArgs = (known: string): (string | number)[] => [known, randomUUID(), othersComeMs];
  return {
    look: async (account: string, known: string): Promise<string> =>
      String(await runScript(client, lookScript, [key(account, 'state')], stateArgs(known))),
    async begin({ account, id, fingerprint, owner, leaseMs }: KeyedWrite, known: string, again: boolean) {
      const args = [VERSION, fingerprint, owner, leaseMs, keepMs, again ? 'again' : ''];
      const keys = [key(account, 'state'), key(account, id)];
      const reply = await runScript(client, beginScript, keys, [...stateArgs(known), ...args]);
      const [kind, state, replyOwner, ...rest] = reply as (Buffer | null | undefined)[];
      // Order was lost on this connection.
      if (String(replyOwner) !== owner) throw new Error('a reply to another write');
      return { kind: String(kind), state: String(state), rest };
    },
    async complete({ account, id, tenant, owner, fingerprint }: KeyedWrite, outcome: WriteOutcome): Promise<void> {
      const response = outcome.kind === 'completed' ? outcome.response : null;
      const fields =
        response === null ? [] : [response.status, JSON.stringify(response.headers), response.body?.length ?? 0];
      const body = response === null || response.body === null ? [] : [response.body];
      const keys = [key(account, id), key(account, `bytes:${tenant}`)];
      const args = [owner, keepMs, outcome.kind, VERSION, fingerprint, tenantBytes];
      await runScript(client, completeScript, keys, [...args, ...fields, ...body]);
    },
  };
}

function beginResultOf(
  kind: string,
  [status, headers, bytes, body]: readonly (Buffer | null | undefined)[],
): BeginResult {
  switch (kind) {
    case 'first':
    case 'conflict':
    case 'mismatch':
    case 'unknown':
      return { kind };
    case 'replay': {
      const response = responseOf(Number(String(status)), String(headers), Number(String(bytes)), body ?? null);
      return response === null ? { kind: 'broken' } : { kind: 'replay', response };
    }
    default:
      return { kind: 'broken' };
  }
}

const headerList = z.array(z.string()).refine((list) => list.length % 2 === 0);

/** Null for a record that is not a response of ours. */
function responseOf(status: number, headers: string, bytes: number, body: Buffer | null): RecordedResponse | null {
  if (!Number.isInteger(status) || status < 200 || status > 599) return null;
  if (body !== null && body.length !== bytes) return null;
  const list = parseJson(headerList, headers);
  return list === null ? null : { status, headers: list, body };
}
