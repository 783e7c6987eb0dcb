import { randomUUID } from 'node:crypto';
import type { Clock } from '../../../clock.ts';
import { LATE_ARRIVAL_MS } from '../../../context.ts';
import type { Log, Meter } from '../../../ports.ts';
import {
  type AccountSlotRequest,
  type AccountView,
  type QuotaPlan,
  type QuotaStore,
  REMOVED_ACCOUNT,
  REMOVED_TENANT,
  type TenantView,
} from '../../../quota/quota-store.ts';
import type { RedisConnection } from '../client/connection.ts';
import { LocalLeases } from './local-leases.ts';
import { QuotaClient } from './quota-client.ts';
import type { QuotaConnection } from './quota-scripts.ts';
import { SharedAccount } from './shared-account.ts';

export interface RedisQuotaStore extends QuotaStore {
  /** Joins the other replicas. Resolves after the first attempt: it goes on trying. */
  start(): Promise<void>;
  /** Leaves the other replicas, with a report of what may still be under way. */
  stop(): Promise<void>;
  state(): { readonly up: boolean; readonly fallback: boolean; readonly canAdmit: boolean };
}

interface RedisQuotaStoreOptions {
  readonly connection: QuotaConnection & Pick<RedisConnection, 'onReady' | 'fault'>;
  readonly clock: Clock;
  readonly plan: QuotaPlan;
  readonly meter: Meter;
  readonly log: Log;
  readonly prefix: string;
  /** A name that no other living replica has: host and port. */
  readonly replica: string;
  readonly onOutage: 'local' | 'closed';
  /** How long the share of a silent replica is kept for it. */
  readonly replicaGraceMs: number;
  /** How long a request can be under way at most, from admission to the last moment it may arrive. */
  readonly maxInFlightMs: number;
  /** Redis responds again, or a slot came back: waiters should ask again. */
  readonly onChange: () => void;
  /** The time of the server, for simulations; by default its own. */
  readonly serverTime?: () => number;
}

/** The quota of many replicas: see SharedAccount for one account, and the scripts for the part of Redis. */
export function createRedisQuotaStore(options: RedisQuotaStoreOptions): RedisQuotaStore {
  const { connection } = options;
  const identity = identityOf(options);
  const accounts = new Map<string, SharedAccount>();
  let started = false;

  const configure = (plan: QuotaPlan): void => {
    for (const [id, account] of accounts) {
      if (plan.accounts.has(id)) continue;
      accounts.delete(id);
      void account.membership.stop(LATE_ARRIVAL_MS);
    }
    for (const [id, quota] of plan.accounts) {
      const tenants = plan.tenants.get(id) ?? new Map();
      const known = accounts.get(id);
      if (known !== undefined) known.configure(quota, tenants);
      else {
        const leases = new LocalLeases();
        const of = { ...options, account: id, leases };
        const { process, name } = identity;
        const client = new QuotaClient({ ...of, process, replica: name, newTicket: randomUUID }, quota, tenants);
        const account = new SharedAccount(
          {
            ...{ ...of, client, onNameTaken: identity.rename },
            isReady: () => connection.isReady(),
            fault: () => connection.fault(),
          },
          quota,
          tenants,
        );
        accounts.set(id, account);
        if (started) void account.membership.start();
      }
    }
  };
  configure(options.plan);

  const all = (): SharedAccount[] => [...accounts.values()];

  return {
    admit: async (request: AccountSlotRequest) => accounts.get(request.account)?.admit(request) ?? REMOVED_ACCOUNT,
    cancel: (account, tenant, place) => accounts.get(account)?.cancel(tenant, place),
    configure,
    peek: (account, tenant): TenantView => accounts.get(account)?.peek(tenant) ?? REMOVED_TENANT,
    view(id): AccountView {
      const account = accounts.get(id);
      if (account === undefined) throw new Error(`the quota store has no account ${id}`);
      return account.view();
    },
    async start() {
      started = true;
      connection.onReady(() => {
        for (const account of accounts.values()) account.membership.reachable();
      });
      await Promise.all(all().map(({ membership }) => membership.start()));
    },
    async stop() {
      await Promise.all(all().map(({ membership }) => membership.stop(LATE_ARRIVAL_MS)));
    },
    state: () => ({
      up: all().every(({ membership }) => membership.up),
      fallback: all().some(({ alone }) => alone),
      canAdmit: all().every(({ canAdmit }) => canAdmit),
    }),
  };
}

/** The name of this replica, and of this process. A name that another process has is given up, once. */
function identityOf({ replica, log }: RedisQuotaStoreOptions) {
  const process = randomUUID();
  let name = replica;
  return {
    process,
    name: () => name,
    rename: () => {
      if (name !== replica) return;
      name = `${replica}~${process.slice(0, 8)}`;
      log.warn({ replica: name }, 'another process has the name of this replica: it takes another one');
    },
  };
}
