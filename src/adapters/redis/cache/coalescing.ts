import { randomUUID } from 'node:crypto';
import type { FetchResultKind } from '../../../cache/coalescing.ts';
import { accountOf } from '../../../cache/key.ts';
import type { Announced, ReplicaCoalescing } from '../../../cache/options.ts';
import type { Clock } from '../../../clock.ts';
import type { Bus } from '../client/pubsub.ts';
import { type Client, loadScript, runScript } from '../client/scripts.ts';
import type { SharedDrops } from './invalidation-log.ts';
import { nameOf, type SharedAnswers } from './response-store.ts';

const announceFetch = loadScript(import.meta.url, 'announce-fetch');
const extendFetch = loadScript(import.meta.url, 'extend-fetch');
const finishFetch = loadScript(import.meta.url, 'finish-fetch');

/** A flight of which nothing is heard for this long is over: its replica is gone. */
const KNOWN_MS = 3_000;
const KEEP_MS = 1_000;
/** Whoever waits looks after it this often, should the word of its landing be lost. */
const LOOK_MS = 500;
/** Nothing upstream takes longer. */
const LONGEST_MS = 600_000;

const HOW: ReadonlySet<string> = new Set<FetchResultKind>(['stored', 'unshareable', 'failed', 'cancelled']);

/**
 * Flights as all replicas see them: a key in Redis as long as one is under way, and a word to all when it has landed. Where
 * Redis fails, each replica is by itself.
 */
export function createSharedFlights(options: {
  readonly client: Client;
  readonly isReady: () => boolean;
  readonly answers: SharedAnswers;
  readonly bus: Bus;
  readonly drops: SharedDrops;
  readonly prefix: string;
  readonly replica: string;
  readonly clock: Clock;
}): ReplicaCoalescing {
  const { client, answers, bus, drops, prefix, replica, clock } = options;
  /** Bounded by the requests in flight. */
  const waiting = new Map<string, Set<(how: FetchResultKind) => void>>();

  bus.onMessage((message) => {
    if (message.kind !== 'landed' || message.by === replica) return;
    const how = HOW.has(message.how) ? (message.how as FetchResultKind) : 'cancelled';
    for (const each of [...(waiting.get(message.flight) ?? [])]) each(how);
  });

  const keep = (name: string, token: string): (() => void) => {
    const until = clock.monotonic() + LONGEST_MS;
    let cancel = (): void => {};
    const again = (): void => {
      cancel = clock.after(KEEP_MS, () => {
        // Not told in time, others may ask upstream too.
        runScript(client, extendFetch, [name], [token, KNOWN_MS]).catch(() => {});
        if (clock.monotonic() < until) again();
      });
    };
    again();
    return () => cancel();
  };

  /** How the flight ends; begun before it is known whether there is one, for the word may come at any time. */
  const listen = (
    name: string,
  ): { readonly theirs: Promise<FetchResultKind>; readonly watch: () => void; stop(): void } => {
    let cancel = (): void => {};
    let end: (how: FetchResultKind) => void = () => {};
    const stop = (): void => {
      cancel();
      const all = waiting.get(name);
      all?.delete(end);
      if (all?.size === 0) waiting.delete(name);
    };
    const theirs = new Promise<FetchResultKind>((resolve) => {
      end = (how) => {
        stop();
        resolve(how);
      };
    });
    waiting.set(name, (waiting.get(name) ?? new Set()).add(end));
    const look = (): void => {
      cancel = clock.after(LOOK_MS, () => {
        client.exists(name).then(
          (there) => (there === 1 ? look() : end('cancelled')),
          () => end('cancelled'),
        );
      });
    };
    return { theirs, watch: look, stop };
  };

  const tell = async (name: string, token: string, landed: Promise<FetchResultKind>): Promise<void> => {
    const stop = keep(name, token);
    try {
      const how = await landed;
      // Whoever hears of it looks for the answer at once.
      await answers.written();
      const word = JSON.stringify({ kind: 'landed', flight: name, how, by: replica });
      await runScript(client, finishFetch, [name], [token, bus.channel, word]);
    } catch {
      // Not told, they find it out.
    } finally {
      stop();
    }
  };

  return {
    async announce(key, since, landed) {
      if (!options.isReady()) return BY_ITSELF;
      const position = drops.toShared(accountOf(key), since);
      // Whoever asks after a write does not wait for what was asked for before it.
      const name = nameOf(prefix, `${key}\n${position?.base}\n${position?.at}`, 'f');
      const token = randomUUID();
      const listening = listen(name);
      try {
        const reply = await runScript(client, announceFetch, [name, nameOf(prefix, key)], [token, KNOWN_MS]);
        if (reply === 0) {
          listening.watch();
          return { kind: 'theirs', result: listening.theirs };
        }
        void tell(name, token, landed);
        listening.stop();
        return { kind: 'ours', stored: reply === 2 };
      } catch {
        listening.stop();
        return BY_ITSELF;
      }
    },
  };
}

const BY_ITSELF: Announced = { kind: 'ours', stored: false };
