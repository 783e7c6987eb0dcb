import { createHash } from 'node:crypto';
import type { Log, Meter } from '../../ports.ts';
import type { SharedLogin } from '../../upstream/shared-login.ts';
import type { Bus } from './bus.ts';
import { type LoginIdentity, openLogin } from './login.ts';
import { type Client, runScript } from './scripts.ts';
import type { SealingKey } from './seal.ts';

/** Logins that all replicas know of. Without a key, or where Redis fails, each replica is by itself. */
export interface SharedLogins {
  of(login: LoginIdentity): SharedLogin;
  /** The first seals, all open. Tokens that this replica knows are sealed anew. */
  useKeys(keys: readonly SealingKey[]): void;
}

export function createSharedLogins(options: {
  readonly client: Client;
  readonly isReady: () => boolean;
  readonly onReady: (run: () => void) => void;
  readonly bus: Bus;
  readonly prefix: string;
  readonly replica: string;
  readonly keys: readonly SealingKey[];
  readonly log: Log;
  readonly meter: Meter;
}): SharedLogins {
  const { client, isReady, bus, prefix, replica, log, meter } = options;
  let { keys } = options;
  /** By name; bounded by the credentials of the configurations in use. */
  const listening = new Map<string, Set<() => void>>();
  const tell = (all: Iterable<() => void>): void => {
    for (const run of [...all]) run();
  };
  const tellAll = (): void => tell([...listening.values()].flatMap((each) => [...each]));
  bus.onMessage((message) => {
    if (message.kind === 'login' && message.by !== replica) tell(listening.get(message.login) ?? []);
  });
  // What was told meanwhile was missed, and what this replica has got by itself is not known to the others.
  bus.onListening(tellAll);
  options.onReady(tellAll);

  return {
    of(login) {
      const name = nameOf(prefix, login);
      const own = new Set<() => void>();
      const record = openLogin({
        login,
        keys: () => keys,
        canAsk: () => keys.length > 0 && isReady(),
        ask: (script, args) => runScript(client, script, [name], args),
        channel: bus.channel,
        word: JSON.stringify({ kind: 'login', login: name, by: replica }),
        log,
        meter,
      });
      return {
        ...record,
        onNews(run) {
          own.add(run);
          listening.set(name, (listening.get(name) ?? new Set()).add(run));
        },
        close() {
          const all = listening.get(name);
          for (const run of own) all?.delete(run);
          if (all?.size === 0) listening.delete(name);
        },
      };
    },
    useKeys(next) {
      keys = next;
      tellAll();
    },
  };
}

/**
 * By whose login it is, where, and for which credential. Left out is the password: a token goes on when it was changed, and
 * no digest of it is to be had from Redis.
 */
function nameOf(prefix: string, { account, credential, url, username }: LoginIdentity): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([credential, url, username]))
    .digest('hex');
  return `${prefix}:{${account}}:login:${digest.slice(0, 32)}`;
}
