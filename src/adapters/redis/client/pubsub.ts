import type { Log } from '../../../ports.ts';
import type { Client } from './scripts.ts';
import type { Listener } from './subscriber.ts';

/** What replicas tell each other at once. Nothing may rest on a message arriving: each is also found out by asking. */
export type Message =
  /** `at` is the number of a drop in the log named `base`; `drop` the drop as the log has it. */
  | { kind: 'drop'; account: string; base: string; at: number; drop: string; by: string }
  /** The replica serves nothing any more that a drop up to this one has touched. */
  | { kind: 'dropped'; account: string; base: string; at: number; by: string }
  /** The flight of this name has ended. */
  | { kind: 'landed'; flight: string; how: string; by: string };

export interface Bus {
  readonly channel: string;
  onMessage(listener: (message: Message) => void): void;
  /** Calls `run` each time messages begin to arrive: what was told before was missed. */
  onListening(run: () => void): void;
  /** Best effort. */
  tell(message: Message): void;
  close(): void;
}

/** One channel for all accounts. */
export function openBus(options: {
  readonly listener: Listener;
  readonly client: Client;
  readonly prefix: string;
  readonly log: Log;
}): Bus {
  const { client, log } = options;
  const channel = `${options.prefix}:cache`;
  const listeners: ((message: Message) => void)[] = [];
  const began: (() => void)[] = [];

  options.listener.listen(channel, {
    message: (text) => {
      const message = parse(text);
      if (message === null) log.debug({}, 'a message on the channel of the cache is none of ours');
      else for (const each of listeners) each(message);
    },
    began: () => {
      for (const run of began) run();
    },
  });

  return {
    channel,
    onMessage: (each) => void listeners.push(each),
    onListening: (run) => void began.push(run),
    tell: (message) => {
      client.publish(channel, JSON.stringify(message)).catch((error: unknown) => {
        log.debug({ reason: messageOf(error) }, 'the cache could not tell other replicas');
      });
    },
    close: () => options.listener.close(),
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const FIELDS: Readonly<Record<Message['kind'], Readonly<Record<string, 'string' | 'number'>>>> = {
  drop: { account: 'string', base: 'string', at: 'number', drop: 'string', by: 'string' },
  dropped: { account: 'string', base: 'string', at: 'number', by: 'string' },
  landed: { flight: 'string', how: 'string', by: 'string' },
};

/** Null for what is not one of ours. */
function parse(text: string): Message | null {
  try {
    const message = JSON.parse(text) as Record<string, unknown> | null;
    const fields = FIELDS[message?.['kind'] as Message['kind']];
    if (message === null || fields === undefined) return null;
    const whole = Object.entries(fields).every(([name, type]) => typeof message[name] === type);
    return whole ? (message as unknown as Message) : null;
  } catch {
    return null;
  }
}
