import cluster from 'node:cluster';
import { fileURLToPath } from 'node:url';
import { type Clock, every } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import { pack } from '../config/packed.ts';
import type { Log } from '../observe.ts';
import { Handout } from './handout.ts';
import { Member } from './member.ts';
import type { Answers, Question } from './messages.ts';
import { createRestarts } from './restarts.ts';

export interface CrewOptions {
  readonly count: number;
  /** What the first workers are opened with. */
  readonly opened: Settings;
  /** In force now. */
  readonly settings: () => Settings;
  readonly clock: Clock;
  readonly log: Log;
  /** A worker has ended by itself, and another takes its place. */
  readonly onRestart: () => void;
  /** The last that a worker has told of what it counted. */
  readonly onGone: (metrics: string | null) => void;
  /** They end again and again: it is over. */
  readonly onGivenUp: (reason: string) => void;
}

export interface Crew {
  readonly handout: Handout;
  /** Starts all. Resolves when all are open; with a reason if one has ended first. */
  open(): Promise<string | null>;
  /** That are open. */
  members(): readonly Member[];
  /** Of all that are open at once, without those that did not answer in time. */
  askAll<About extends Question['about']>(
    question: Extract<Question, { about: About }>,
    withinMs: number,
  ): Promise<readonly { readonly member: Member; readonly answer: Answers[About] }[]>;
  /** All take these settings over, those that are just starting too; one that does not is replaced by one that does. */
  reload(settings: Settings): Promise<void>;
  /** None is started any more. */
  drain(signal: string): void;
  /** The last connection was handed over. Resolves when all have ended; false: some had to be killed. */
  leave(withinMs: number): Promise<boolean>;
  /** Ends all at once. */
  kill(): void;
}

/** To read settings, open connections and join Redis takes a second; a machine that does nothing but start processes needs longer. */
const OPEN_MS = 30_000;
/** A new generation is drawn within milliseconds; 10,000 tenants take a second. */
const RELOAD_MS = 15_000;
/** A worker that does not get round to anything for so long is of no use any more: as long as a kubelet waits for a process. */
const SILENT_MS = 30_000;
const WATCH_MS = 2_000;

export function createCrew(options: CrewOptions): Crew {
  const { count, clock, log } = options;
  cluster.setupPrimary({
    exec: fileURLToPath(new URL('./worker.js', import.meta.url)),
    args: [],
    // Settings hold maps.
    serialization: 'advanced',
  });
  const refusedAt = { last: Number.NEGATIVE_INFINITY };
  const handout = new Handout(() => {
    if (clock.monotonic() - refusedAt.last < WATCH_MS) return;
    refusedAt.last = clock.monotonic();
    log.error({}, 'no worker takes connections: new ones are cut off');
  });
  const restarts = createRestarts(clock);
  const all = new Set<Member>();
  const open = new Set<Member>();
  let phase: 'starting' | 'serving' | 'draining' | 'over' = 'starting';
  let whenAllGone = (): void => {};
  let opened: { readonly all: () => void; readonly failed: (reason: string) => void } | null = null;

  const start = (id: number): void => {
    let given: Settings | null = null;
    const ready = async (): Promise<void> => {
      cancel();
      // It was opened with settings that are not in force any more.
      while (all.has(member) && given !== options.settings()) {
        given = options.settings();
        if ((await reloadOne(member, given)) === null) return;
      }
      if (!all.has(member) || phase === 'draining' || phase === 'over') return;
      open.add(member);
      handout.join(member);
      if (phase !== 'starting') log.info({ worker: id, pid: member.pid }, 'worker is ready');
      else if (open.size === count) opened?.all();
    };
    const member = new Member(id, cluster.fork(), clock, {
      onHello: () => {
        given = options.settings();
        member.tell({ kind: 'open', id, of: count, opened: pack(options.opened), now: pack(given) });
      },
      onOpen: () => void ready(),
      onTook: () => handout.took(member),
      onGone: (how) => {
        cancel();
        gone(member, how);
      },
    });
    all.add(member);
    const cancel = clock.after(OPEN_MS, () => {
      log.error({ worker: id }, 'worker does not open: it is killed');
      member.kill();
    });
  };

  const gone = (member: Member, { code, signal }: { code: number | null; signal: string | null }): void => {
    all.delete(member);
    open.delete(member);
    handout.part(member);
    options.onGone(member.metrics);
    if (all.size === 0) whenAllGone();
    if (phase === 'draining' || phase === 'over') return;
    const { id } = member;
    log.error({ worker: id, pid: member.pid, code, signal }, 'worker has ended');
    if (phase === 'starting') {
      opened?.failed(`worker ${id} ended before it was ready (${signal ?? `exit code ${code}`}): see the log`);
      return;
    }
    const verdict = restarts.ended(id);
    if (verdict.kind === 'give up') {
      phase = 'over';
      const { ends, withinMs } = verdict;
      options.onGivenUp(`workers have ended ${ends} times within ${withinMs / 1000} s: giving up, see the log`);
      return;
    }
    options.onRestart();
    clock.after(verdict.afterMs, () => {
      if (phase === 'serving') start(id);
    });
  };

  /** Null: it is killed, and another will take its place with these settings. */
  const reloadOne = async (member: Member, settings: Settings): Promise<true | null> => {
    const taken = await member.ask({ about: 'reload', settings: pack(settings) }, RELOAD_MS);
    if (taken === null && all.has(member)) {
      log.error({ worker: member.id }, 'worker does not take the configuration over: it is killed');
      member.kill();
    }
    return taken;
  };

  const stopWatching = every(clock, WATCH_MS, () => {
    for (const member of open) {
      if (member.silentMs < SILENT_MS || phase !== 'serving') continue;
      log.error({ worker: member.id, silentMs: Math.round(member.silentMs) }, 'worker hangs: it is killed');
      member.kill();
    }
  });
  const kill = (): void => {
    for (const member of all) member.kill();
  };
  // However this process ends: nobody watches them any more.
  process.once('exit', kill);

  return {
    handout,
    open: () =>
      new Promise((resolve) => {
        opened = {
          all: () => {
            phase = 'serving';
            resolve(null);
          },
          failed: resolve,
        };
        for (let id = 1; id <= count; id++) start(id);
      }),
    members: () => [...open],
    async askAll(question, withinMs) {
      const asked = [...open].map(async (member) => ({ member, answer: await member.ask(question, withinMs) }));
      return (await Promise.all(asked)).flatMap(({ member, answer }) => (answer === null ? [] : [{ member, answer }]));
    },
    async reload(settings) {
      await Promise.all([...open].map((member) => reloadOne(member, settings)));
    },
    drain(signal) {
      phase = 'draining';
      for (const member of all) {
        if (open.has(member)) member.tell({ kind: 'drain', signal });
        else member.kill();
      }
    },
    leave(withinMs) {
      for (const member of open) member.tell({ kind: 'leave' });
      return new Promise((resolve) => {
        const cancel = clock.after(withinMs, () => {
          for (const { id } of all) log.error({ worker: id }, 'worker does not end: it is killed');
          kill();
          whenAllGone = () => resolve(false);
        });
        whenAllGone = () => {
          cancel();
          resolve(true);
        };
        if (all.size === 0) whenAllGone();
      });
    },
    kill() {
      phase = 'over';
      stopWatching();
      process.removeListener('exit', kill);
      kill();
    },
  };
}
