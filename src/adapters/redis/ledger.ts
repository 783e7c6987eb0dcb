import { randomUUID } from 'node:crypto';
import type { Clock } from '../../clock.ts';
import type { Log, Meter } from '../../ports.ts';
import {
  type AccountView,
  type Ask,
  type Decision,
  type Ledger,
  type LedgerPlan,
  NO_TENANT,
  REMOVED_RETRY_MS,
  type TenantView,
} from '../../quota/ledger.ts';
import { LocalLeases } from './local-leases.ts';
import { QuotaClient, type QuotaConnection } from './quota-client.ts';
import { SharedAccount } from './shared-account.ts';

export interface RedisLedger extends Ledger {
  /** Joins the other replicas. Resolves after the first attempt: it goes on trying. */
  start(): Promise<void>;
  /** Tells the others that this replica is gone, and what it may have left under way. */
  stop(): Promise<void>;
  state(): { readonly up: boolean; readonly fallback: boolean };
}

export interface RedisLedgerOptions {
  readonly connection: QuotaConnection & { reconnect(): void; onReady(run: () => void): void };
  readonly clock: Clock;
  readonly plan: LedgerPlan;
  readonly meter: Meter;
  readonly log: Log;
  readonly prefix: string;
  /** A name no other living replica has: host and port. */
  readonly replica: string;
  readonly onOutage: 'local' | 'closed';
  readonly replicaGraceMs: number;
  /** How long a request can be under way at most, from admission to the last moment it may arrive. */
  readonly flightMs: number;
  /** How long what is cut off at the end may still arrive. */
  readonly lateArrivalMs: number;
  /** What those who wait were told no longer holds. */
  readonly onChange: () => void;
  /** The time of the server, for simulations; by default its own. */
  readonly serverTime?: () => number;
}

/** A reload has removed the account. */
const GONE: Decision = { kind: 'refused', by: 'tenant', retryAfterMs: REMOVED_RETRY_MS, tenant: NO_TENANT };

/** The ledger of many replicas: see SharedAccount for how one account is kept, and scripts/ for what Redis does. */
export function createRedisLedger(options: RedisLedgerOptions): RedisLedger {
  const { connection, clock, meter, log, onOutage, flightMs } = options;
  const process = randomUUID();
  let replica = options.replica;
  const accounts = new Map<string, SharedAccount>();
  let started = false;

  const open = (account: string, plan: LedgerPlan): SharedAccount => {
    const quota = plan.accounts.get(account);
    if (quota === undefined) throw new Error(`the plan has no account ${account}`);
    const tenants = plan.tenants.get(account) ?? new Map();
    const leases = new LocalLeases();
    const of = { ...options, account, process, leases, replica: () => replica, newTicket: randomUUID };
    const client = new QuotaClient(of, quota, tenants);
    return new SharedAccount(
      {
        account,
        client,
        leases,
        clock,
        meter,
        log,
        onOutage,
        flightMs,
        isReady: () => connection.isReady(),
        onChange: options.onChange,
        reconnect: () => connection.reconnect(),
        onNameTaken: () => {
          if (replica !== options.replica) return;
          replica = `${options.replica}~${process.slice(0, 8)}`;
          log.warn({ replica }, 'another process has the name of this replica: it takes another one');
        },
      },
      quota,
      tenants,
    );
  };
  const configure = (plan: LedgerPlan): void => {
    for (const [id, account] of accounts) {
      if (plan.accounts.has(id)) continue;
      accounts.delete(id);
      void account.membership.stop(options.lateArrivalMs);
    }
    for (const [id, quota] of plan.accounts) {
      const known = accounts.get(id);
      if (known !== undefined) known.configure(quota, plan.tenants.get(id) ?? new Map());
      else {
        const account = open(id, plan);
        accounts.set(id, account);
        if (started) void account.membership.start();
      }
    }
  };
  configure(options.plan);

  const accountOf = (id: string): SharedAccount => {
    const account = accounts.get(id);
    if (account === undefined) throw new Error(`the ledger has no account ${id}`);
    return account;
  };
  const all = (): SharedAccount[] => [...accounts.values()];

  return {
    admit: (ask: Ask) => accounts.get(ask.account)?.admit(ask) ?? GONE,
    withdraw: (account, tenant) => accounts.get(account)?.withdraw(tenant),
    configure,
    peek: (account, tenant): TenantView => accounts.get(account)?.peek(tenant) ?? NO_TENANT,
    view: (account): AccountView => accountOf(account).view(),
    async start() {
      started = true;
      connection.onReady(() => {
        for (const account of accounts.values()) account.membership.reachable();
      });
      await Promise.all(all().map(({ membership }) => membership.start()));
    },
    async stop() {
      await Promise.all(all().map(({ membership }) => membership.stop(options.lateArrivalMs)));
    },
    state: () => ({ up: all().every(({ membership }) => membership.up), fallback: all().some(({ alone }) => alone) }),
  };
}
