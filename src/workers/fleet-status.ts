import { type Clock, every } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { Frames } from '../edge/events.ts';
import type { Frame, LoadStatus, Standing, StatusDocument } from '../edge/status-document.ts';
import { createHistory } from '../gateway/history.ts';
import { KEEP_MS, SAMPLE_MS, type StatusPart } from '../gateway/status.ts';
import { loadStatusOf } from '../gateway/status-parts.ts';
import type { Redactor } from '../telemetry/redact.ts';
import type { Crew } from './crew.ts';
import {
  mergeAccounts,
  mergeBusiest,
  mergeCache,
  mergeState,
  mergeTenants,
  mergeUpstreams,
  mergeUse,
} from './merged.ts';

export interface FleetStatusOptions {
  readonly crew: Crew;
  readonly clock: Clock;
  readonly redactor: Redactor;
  readonly version: string;
  readonly configured: number;
  readonly settings: () => Settings;
  readonly draining: () => boolean;
  readonly restarts: () => number;
  readonly needsRestart: () => readonly string[];
  /** Somebody has the page open. */
  readonly watched: () => boolean;
}

/** How the workers stand together. Between two looks nothing is asked of them but for GET /status. */
export interface FleetStatus {
  start(): void;
  stop(): void;
  loaded(problems?: readonly string[]): void;
  document(): Promise<StatusDocument>;
  /** Asks all of them, tenants included: before the first frame of a page. */
  look(tenants: boolean): Promise<void>;
  frames(): Frames;
}

/** As often as the page is told; workers answer from what they have at hand. */
const LOOK_MS = 2_000;
const ANSWER_MS = 1_500;
/** Of each worker, by name. Beyond them a tenant that is quiet in one worker and not in another is told of by the latter alone. */
const MOST_TENANTS = 1_000;

export function createFleetStatus(options: FleetStatusOptions): FleetStatus {
  const { crew, clock, settings } = options;
  const startedAt = clock.monotonic();
  const isoNow = () => new Date(clock.now()).toISOString();
  let lastLoad: LoadStatus = { outcome: 'ok', at: isoNow(), problems: [] };
  let stopLooking = (): void => {};

  const look = async (tenants: boolean): Promise<void> => {
    const answers = await crew.askAll({ about: 'standing', tenants: tenants ? MOST_TENANTS : 0 }, ANSWER_MS);
    for (const { member, answer } of answers) member.part = answer;
  };
  /** Of one that gave no answer, the one before. */
  const parts = (): StatusPart[] => crew.members().flatMap(({ part }) => part ?? []);

  const standingOf = (all: readonly Standing[]): Standing => ({
    version: options.version,
    now: isoNow(),
    upSeconds: Math.round((clock.monotonic() - startedAt) / 1000),
    draining: options.draining(),
    inFlight: all.reduce((sum, { inFlight }) => sum + inFlight, 0),
    accounts: mergeAccounts(settings(), all),
    upstreams: mergeUpstreams(settings(), all),
    unattributed: mergeUse(all.map(({ unattributed }) => unattributed)),
    recentSeconds: all.reduce((most, { recentSeconds }) => Math.max(most, recentSeconds), 0),
    cache: mergeCache(settings(), all),
    state: mergeState(all),
    workers: { configured: options.configured, serving: crew.members().length, restarts: options.restarts() },
    revision: settings().revision,
    needsRestart: options.needsRestart(),
    lastLoad,
  });
  const history = createHistory({
    clock,
    everyMs: SAMPLE_MS,
    keepMs: KEEP_MS,
    read: () => {
      const accounts = mergeAccounts(
        settings(),
        parts().map(({ status }) => status),
      );
      return new Map(
        Object.entries(accounts).map(([id, { slotsInUse, slotsForeign, waiting, heldForMs }]) => [
          id,
          { slotsInUse, slotsForeign, waiting, held: +(heldForMs > 0) },
        ]),
      );
    },
  });

  return {
    look,
    start() {
      history.start();
      stopLooking = every(clock, LOOK_MS, () => void look(options.watched()));
    },
    stop() {
      history.stop();
      stopLooking();
    },
    loaded(problems) {
      lastLoad = loadStatusOf(problems, isoNow(), options.redactor);
    },
    async document() {
      const all = (await crew.askAll({ about: 'status' }, ANSWER_MS)).map(({ answer }) => answer);
      const tenants = Object.fromEntries(mergeTenants(all.map((each) => each.tenants)));
      return { ...standingOf(all), tenants, history: history.since(0) };
    },
    frames() {
      const all = parts();
      const status = standingOf(all.map((each) => each.status));
      const tenants = mergeBusiest(settings().tenants.size, all);
      const shared = JSON.stringify({ status, tenants } satisfies Omit<Frame, 'history'>).slice(0, -1);
      return (seen) => {
        const past: Frame['history'] = history.since(seen);
        return { text: `${shared},"history":${JSON.stringify(past)}}`, seen: history.taken() };
      };
    },
  };
}
