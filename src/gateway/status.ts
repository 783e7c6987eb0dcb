import { hostname } from 'node:os';
import type { RedisFault } from '../adapters/redis/client/faults.ts';
import type {
  AccountStatus,
  BlockedStatus,
  Frame,
  LoadStatus,
  StatusDocument,
  StatusSummary,
  TenantStatus,
} from '../admin/status/document.ts';
import type { Clock, EpochMs } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import type { Usage } from '../telemetry/metrics.ts';
import type { ConfigSnapshot } from './config-snapshot.ts';
import { createHistory } from './history.ts';
import {
  budgetStatusOf,
  busiestOf,
  callersOf,
  credentialStatusOf,
  issuerStatusOf,
  keyFindingsOf,
  keyStatusOf,
  loadStatusOf,
  problemOf,
  sumOf,
  upstreamStatusOf,
  useOf,
  withId,
} from './status-parts.ts';

export interface StatusOptions {
  readonly generation: () => ConfigSnapshot;
  readonly clock: Clock;
  readonly version: string;
  readonly usage: () => ReadonlyMap<string, Usage>;
  /** By account, whether this replica learns of writes through other replicas. */
  readonly inTouch: () => Readonly<Record<string, boolean>>;
  /** Why the connection of the cache to Redis cannot be used. */
  readonly cacheFault: () => RedisFault | null;
  readonly blocked: () => BlockedStatus;
  readonly draining: () => boolean;
  readonly inFlight: () => number;
  /** Options that take effect only after a restart. */
  readonly needsRestart: () => readonly string[];
}

/** How the gateway stands: for GET /status and for the page. Only timers and readers cost anything, never a request. */
export interface Status {
  /** Begins to sample. */
  start(): void;
  stop(): void;
  /** A configuration was taken over, or refused with these problems, without secrets. */
  loaded(problems?: readonly string[]): void;
  document(): StatusDocument;
  /** The present, once for all who listen; each is given what it lacks of the past. */
  frames(): (seen: number) => { readonly text: string; readonly seen: number };
}

export function createStatus(options: StatusOptions): Status {
  const { clock, generation } = options;
  const startedAt = clock.monotonic();
  let lastLoad: LoadStatus = { outcome: 'ok', at: isoNow(clock), problems: [] };
  const history = createHistory({
    clock,
    readUsage: options.usage,
    readAccounts: () => {
      const { settings, quotaStore, admissionQueue } = generation().dependencies;
      return new Map(
        [...settings.accounts.keys()].map((id) => {
          const { slotsInUse, externalUsage, cooldownMs } = quotaStore.view(id);
          return [id, { slotsInUse, externalUsage, waiting: admissionQueue.waiting(id), cooldown: +(cooldownMs > 0) }];
        }),
      );
    },
  });

  const standing = ({ seconds, byTenant }: ReturnType<typeof history.recent>): StatusSummary => {
    const { settings, state, memory, upstreams, redactor, keyUses } = generation().dependencies;
    const unknown = [...byTenant].filter(([id]) => !settings.tenants.has(id)).map(([, usage]) => usage);
    const { reads, hits } = sumOf([...byTenant.values()]);
    return {
      version: options.version,
      deployment: settings.listen.admin.name,
      replica: hostname(),
      runbookBaseUrl: settings.listen.admin.runbookBaseUrl,
      now: isoNow(clock),
      upSeconds: Math.round((clock.monotonic() - startedAt) / 1000),
      draining: options.draining(),
      inFlight: options.inFlight(),
      accounts: accountsOf(generation(), clock.now()),
      upstreams: upstreamStatusOf(upstreams.statuses()),
      issuers: issuerStatusOf(generation().issuerKeys),
      keys: keyFindingsOf(settings.tenants.values(), keyUses, clock.now()),
      unattributed: useOf(sumOf(unknown)),
      blocked: options.blocked(),
      recentSeconds: seconds,
      cache: {
        ...memory.size(),
        maxBytes: settings.cache.memoryBytes,
        inTouch: options.inTouch(),
        recent: { reads, hits },
      },
      state: {
        kind: state.kind,
        ...state.status(),
        problem: problemOf(state.fault() ?? options.cacheFault(), redactor),
        eviction: state.eviction(),
      },
      revision: settings.revision,
      needsRestart: options.needsRestart(),
      lastLoad,
    };
  };

  return {
    start: history.start,
    stop: history.stop,
    loaded(problems) {
      lastLoad = loadStatusOf(problems, isoNow(clock), generation().dependencies.redactor);
    },
    document() {
      const used = history.recent();
      const tenants = Object.fromEntries(tenantsOf(generation(), used.byTenant, clock.now()));
      return { ...standing(used), tenants, history: history.since(0) };
    },
    frames() {
      const used = history.recent();
      const present = {
        status: standing(used),
        tenants: busiestOf(tenantsOf(generation(), used.byTenant, clock.now()).map(withId)),
      };
      // Written once, however many listen.
      const shared = JSON.stringify(present satisfies Omit<Frame, 'history'>).slice(0, -1);
      return (seen) => {
        const past: Frame['history'] = history.since(seen);
        return { text: `${shared},"history":${JSON.stringify(past)}}`, seen: history.taken() };
      };
    },
  };
}

function accountsOf(generation: ConfigSnapshot, now: EpochMs): Record<string, AccountStatus> {
  const { settings, quotaStore, admissionQueue } = generation.dependencies;
  return Object.fromEntries(
    [...settings.accounts.keys()].map((id) => {
      const { budgets, ...view } = quotaStore.view(id);
      const status = {
        ...view,
        waiting: admissionQueue.waiting(id),
        credentials: credentialStatusOf(generation.credentials, id, namedIn(settings, id)),
        budgets: budgetStatusOf(budgets, now),
      };
      return [id, status];
    }),
  );
}

/** Credentials of an account that routes name. */
function namedIn({ routes, upstreams }: Settings, account: string): ReadonlySet<string | null> {
  const own = routes.filter(({ upstream }) => upstreams.get(upstream)?.account === account);
  return new Set(own.map(({ credential }) => credential));
}

function tenantsOf(
  { dependencies: parts }: ConfigSnapshot,
  used: ReadonlyMap<string, Usage>,
  now: EpochMs,
): [string, TenantStatus][] {
  const { settings, quotaStore, admissionQueue, keyUses } = parts;
  return [...settings.tenants.values()].flatMap((tenant): [string, TenantStatus][] => {
    const { id, accounts, disabled, enforcement } = tenant;
    const waiting = accounts.reduce((sum, account) => sum + admissionQueue.waiting(account, id), 0);
    const [first, ...others] = accounts.map((account) => ({ account, ...quotaStore.peek(account, id) }));
    if (first === undefined) return [];
    const { account, budgets: ofFirst = [], ...quota } = first;
    const budgets = [...ofFirst, ...others.flatMap((each) => each.budgets ?? [])];
    const recent = useOf(used.get(id));
    const use = { quota, budgets: budgetStatusOf(budgets, now), waiting, recent };
    const keyStatus = callersOf(tenant).map((key) => keyStatusOf(key, keyUses.of(id, key.id), now));
    return [[id, { account, accounts, disabled, enforcement, ...use, keys: keyStatus }]];
  });
}

function isoNow(clock: Clock): string {
  return new Date(clock.now()).toISOString();
}
