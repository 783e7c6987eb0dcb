import { hostname } from 'node:os';
import type { BlockingLimit } from '../adapters/abuse-limits.ts';
import type { AccountStatus, Frame, LoadStatus, StatusDocument, StatusSummary } from '../admin/status/document.ts';
import type { Clock, EpochMs } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import type { Usage } from '../telemetry/metrics.ts';
import type { ConfigSnapshot } from './config-snapshot.ts';
import { createHistory } from './history.ts';
import {
  accountViewsOf,
  blockedStatusOf,
  budgetStatusOf,
  busiestOf,
  callersOf,
  credentialStatusOf,
  issuerStatusOf,
  keyFindingsOf,
  keyStatusOf,
  loadStatusOf,
  type NamedTenant,
  problemOf,
  sumOf,
  useOf,
} from './status-parts.ts';

/** How the gateway stands: for GET /status and for the page. Only timers and readers cost anything, never a request. */
export function createStatus(options: {
  readonly current: () => ConfigSnapshot;
  readonly clock: Clock;
  readonly version: string;
  readonly usage: () => ReadonlyMap<string, Usage>;
  readonly adminGuessLimit: Pick<BlockingLimit, 'blocked'>;
  readonly draining: () => boolean;
  readonly inFlight: () => number;
  /** Options that take effect only after a restart. */
  readonly needsRestart: () => readonly string[];
}) {
  const { clock, current } = options;
  const startedAt = clock.monotonic();
  let lastLoad: LoadStatus = { outcome: 'ok', at: isoNow(clock), problems: [] };
  const history = createHistory({
    clock,
    readUsage: options.usage,
    readAccounts: () =>
      new Map(
        accountViewsOf(current().dependencies).map(({ id, slotsInUse, externalUsage, waiting, cooldownMs }) => [
          id,
          { slotsInUse, externalUsage, waiting, cooldown: +(cooldownMs > 0) },
        ]),
      ),
  });

  const standing = ({ seconds, byTenant }: ReturnType<typeof history.recent>): StatusSummary => {
    const { dependencies, issuerKeys } = current();
    const { settings, state, memory, cache, upstreams, redactor, keyUses } = dependencies;
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
      accounts: accountsOf(current(), clock.now()),
      upstreams: upstreams.statuses(),
      issuers: issuerStatusOf(issuerKeys),
      keys: keyFindingsOf(settings.tenants.values(), keyUses, clock.now()),
      unattributed: useOf(sumOf(unknown)),
      blocked: blockedStatusOf(dependencies, options.adminGuessLimit),
      recentSeconds: seconds,
      cache: {
        ...memory.size(),
        maxBytes: settings.cache.memoryBytes,
        inTouch: Object.fromEntries(
          [...settings.accounts.keys()].map((id) => [id, cache.invalidations.disconnectedSince(id) === null]),
        ),
        recent: { reads, hits },
      },
      state: {
        kind: state.kind,
        ...state.status(),
        problem: problemOf(state.fault() ?? cache.fault(), redactor),
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
    /** A configuration was taken over, or refused with these problems, without secrets. */
    loaded(problems?: readonly string[]): void {
      lastLoad = loadStatusOf(problems, isoNow(clock), current().dependencies.redactor);
    },
    document(): StatusDocument {
      const used = history.recent();
      const tenants = tenantsOf(current(), used.byTenant, clock.now()).map(({ id, ...tenant }) => [id, tenant]);
      return { ...standing(used), tenants: Object.fromEntries(tenants), history: history.since(0) };
    },
    /** The present, once for all who listen; each is given what it lacks of the past. */
    frames() {
      const used = history.recent();
      const tenants = busiestOf(tenantsOf(current(), used.byTenant, clock.now()));
      const present = { status: standing(used), tenants };
      // Written once, however many listen.
      const shared = JSON.stringify(present satisfies Omit<Frame, 'history'>).slice(0, -1);
      return (seen: number) => {
        const past: Frame['history'] = history.since(seen);
        return { text: `${shared},"history":${JSON.stringify(past)}}`, seen: history.taken() };
      };
    },
  };
}

function accountsOf({ dependencies, credentials }: ConfigSnapshot, now: EpochMs): Record<string, AccountStatus> {
  return Object.fromEntries(
    accountViewsOf(dependencies).map(({ id, budgets, ...view }) => [
      id,
      {
        ...view,
        credentials: credentialStatusOf(credentials, id, namedIn(dependencies.settings, id)),
        budgets: budgetStatusOf(budgets, now),
      },
    ]),
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
): NamedTenant[] {
  const { settings, quotaStore, admissionQueue, keyUses } = parts;
  return [...settings.tenants.values()].flatMap((tenant): NamedTenant[] => {
    const { id, accounts, disabled, enforcement } = tenant;
    const waiting = accounts.reduce((sum, account) => sum + admissionQueue.waiting(account, id), 0);
    const [first, ...others] = accounts.map((account) => ({ account, ...quotaStore.peek(account, id) }));
    if (first === undefined) return [];
    const { account, budgets: ofFirst = [], ...quota } = first;
    const budgets = [...ofFirst, ...others.flatMap((each) => each.budgets ?? [])];
    const recent = useOf(used.get(id));
    const use = { quota, budgets: budgetStatusOf(budgets, now), waiting, recent };
    const keyStatus = callersOf(tenant).map((key) => keyStatusOf(key, keyUses.of(id, key.id), now));
    return [{ id, account, accounts, disabled, enforcement, ...use, keys: keyStatus }];
  });
}

function isoNow(clock: Clock): string {
  return new Date(clock.now()).toISOString();
}
