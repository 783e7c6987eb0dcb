import type { Log, Meter } from '../../ports.ts';
import type { Secret } from '../../secret.ts';
import { type FailedLogin, FIRST_REST_MS, LONGEST_REST_MS } from '../../upstream/rest.ts';
import type { Claimed, NewToken, Rest, SharedLogin } from '../../upstream/shared-login.ts';
import type { IssuedToken } from '../../upstream/token-source.ts';
import { type Argument, type Script, scripts } from './scripts.ts';
import { markOf, open, type SealingKey, seal } from './seal.ts';

/**
 * An attempt of which nothing is heard for this long is over: its replica is gone. Two words of it may be lost, and whoever
 * waits for a dead one has 2 s left of the 5 s that a caller waits by default.
 */
const BELIEVED_MS = 3_000;
/** Tokens of Patchworks live a day. One that lives longer is shared for this long. */
const LONGEST_LIFE_MS = 30 * 86_400_000;
/** What `Retry-After` of a login may ask for; a longer rest was written by nobody of us. */
const LONGEST_ASKED_REST_MS = 3_600_000;
/** Tokens that can not be read are passed over one by one: another replica may write one meanwhile. */
const MOST_UNREADABLE = 3;

const WHY: ReadonlySet<string> = new Set<FailedLogin['why']>(['rejected', 'unreachable', 'throttled']);

/** A login, and the door it is for: what is known of one must not be taken for another. */
export interface LoginIdentity {
  readonly account: string;
  /** Id of the credential. */
  readonly credential: string;
  readonly url: string;
  readonly username: string;
  readonly password: Secret;
}

export interface OpenLoginOptions {
  readonly login: LoginIdentity;
  /** The first seals, all open; there is one where `canAsk`. */
  readonly keys: () => readonly SealingKey[];
  readonly canAsk: () => boolean;
  /** Runs a script on the login's record. */
  readonly ask: (script: Script, args: readonly Argument[]) => Promise<unknown>;
  /** Where the others listen, and what they are told when the record has changed. */
  readonly channel: string;
  readonly word: string;
  readonly log: Log;
  readonly meter: Meter;
}

type Looked = Claimed | { readonly kind: 'none' };

/** The record of one login in Redis. What fails there is as if nobody could be asked. */
export function openLogin(options: OpenLoginOptions): Omit<SharedLogin, 'onNews' | 'close'> {
  const { login, canAsk, channel, word } = options;
  const { account, credential } = login;
  const read = createReader(options);
  const first = (): SealingKey => options.keys()[0] as SealingKey;
  const mark = (): string => markOf(login.password.reveal(), first());
  const orNull = async (script: Script, args: () => readonly Argument[]): Promise<unknown[] | null> => {
    if (!canAsk()) return null;
    try {
      const reply = await options.ask(script, args());
      return Array.isArray(reply) ? reply : null;
    } catch {
      return null;
    }
  };

  const store = async ({ id, token, lifeMs, begun }: NewToken): Promise<IssuedToken | null> => {
    const [attempt, when] = 'attempt' in begun ? [begun.attempt, begun.at] : ['', Math.ceil(begun.agoMs)];
    const life = Math.floor(Math.min(lifeMs, LONGEST_LIFE_MS));
    const reply = await orNull(scripts.storeLogin, () => {
      const sealed = seal(token, { account, credential, token: id }, first());
      return [attempt, when, id, sealed, life, channel, word];
    });
    return reply?.[0] === 'token' ? (read(reply)?.issued ?? null) : null;
  };

  const claim = async (attempt: string, leaseMs: number, unwanted: string, refused: boolean): Promise<Looked> => {
    let passed: readonly [string, number] = [unwanted, refused ? 1 : 0];
    for (let i = 0; i < MOST_UNREADABLE; i++) {
      const reply = await orNull(scripts.claimLogin, () => [attempt, leaseMs, ...passed, mark()]);
      if (reply === null) break;
      if (reply[0] !== 'token') return claimedOf(reply);
      const found = read(reply);
      if (found !== null) {
        const { issued, current } = found;
        // The old key may be gone before the token is.
        if (!current) void store({ ...issued, begun: { agoMs: issued.lifeMs - issued.leftMs } });
        return { kind: 'token', issued };
      }
      passed = [String(reply[1]), 0];
    }
    return { kind: 'alone' };
  };

  return {
    async claim(attempt, unwanted) {
      const claimed = await claim(attempt, BELIEVED_MS, unwanted?.id ?? '', unwanted?.refused ?? false);
      return claimed.kind === 'none' ? { kind: 'alone' } : claimed;
    },
    async look(unwanted) {
      const looked = await claim('', 0, unwanted ?? '', false);
      return looked.kind === 'token' ? looked.issued : null;
    },
    keep: (attempt) => void orNull(scripts.keepLogin, () => [attempt, BELIEVED_MS]),
    store,
    async fail(attempt, { why, retryAfterMs }, failures): Promise<Rest | null> {
      const counts = why === 'throttled' ? 0 : 1;
      const rest = [FIRST_REST_MS, LONGEST_REST_MS] as const;
      const reply = await orNull(scripts.failLogin, () => [
        ...[attempt, why, mark(), Math.ceil(retryAfterMs), failures, counts],
        ...rest,
        ...[channel, word],
      ]);
      return reply === null ? null : { restMs: restOf(reply[0]), failures: Number(reply[1]) };
    },
    accepted: () => void orNull(scripts.acceptLogin, () => []),
  };
}

interface Found {
  readonly issued: IssuedToken;
  /** Sealed with the first key. */
  readonly current: boolean;
}

/** Reads a reply `token`; null if it can not be opened: then it is as if it were not there. */
function createReader({ login: { account, credential }, keys, log, meter }: OpenLoginOptions) {
  let told = false;
  return ([, id, sealed, left, life, refusals]: readonly unknown[]): Found | null => {
    const opened = open(String(sealed), { account, credential, token: String(id) }, keys());
    if (!opened.ok) {
      meter.credentialRefresh(account, credential, 'unreadable');
      // Once, until one can be read again: it may be met many times.
      if (!told) log.warn({ account, credential, why: opened.why }, 'the token in Redis can not be read');
      told = true;
      return null;
    }
    told = false;
    const [leftMs, lifeMs] = [Math.min(Number(left), LONGEST_LIFE_MS), Math.min(Number(life), LONGEST_LIFE_MS)];
    const issued = { id: String(id), token: opened.token, lifeMs, leftMs, refusals: Number(refusals) };
    return { issued, current: opened.current };
  };
}

function claimedOf([kind, one, two, three]: readonly unknown[]): Looked {
  switch (kind) {
    case 'ours':
      return { kind, at: Number(one) };
    case 'theirs':
    case 'none':
      return { kind };
    case 'resting': {
      const why = WHY.has(String(one)) ? (String(one) as FailedLogin['why']) : 'unreachable';
      return { kind, why, restMs: restOf(two), failures: Number(three) };
    }
    default:
      return { kind: 'alone' };
  }
}

function restOf(reply: unknown): number {
  return Math.min(Number(reply), LONGEST_ASKED_REST_MS);
}
