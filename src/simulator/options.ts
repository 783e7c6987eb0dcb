import { type Clock, systemClock } from '../clock.ts';
import { checkedSwitches, DEFAULT_SWITCHES, type Switches } from './switches.ts';
import { checkedTerms, type Terms } from './terms.ts';
import type { Trigger } from './trigger-options.ts';

export type { Switches } from './switches.ts';
export { isTier, TIERS } from './terms.ts';

/** A Patchworks account. Its credentials share data and, by default, the counter. */
export interface AccountOptions extends Terms {
  /** Key id → key. */
  readonly apiKeys?: Readonly<Record<string, string>>;
  /** Username or email → password. */
  readonly users?: Readonly<Record<string, string>>;
}

export interface SimulatorOptions {
  /** Default 0: any free one. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** For timestamps, windows, expiry and delays. Default: the clock of the system. */
  readonly clock?: Clock;
  /** Seed of data and latency: equal seeds give equal simulators. Default 1. */
  readonly seed?: number;
  /** Key id → key of the account `main`. Default: a fake primary and a fake spare key. */
  readonly apiKeys?: Readonly<Record<string, string>>;
  /** Username or email → password of the account `main`. */
  readonly users?: Readonly<Record<string, string>>;
  /** Several accounts, by id, in place of `apiKeys` and `users`. Each has its own data. */
  readonly accounts?: Readonly<Record<string, AccountOptions>>;
  /** Webhooks and callbacks, on hosts of their own; default: there are none. */
  readonly triggers?: readonly Trigger[];
  /** Default: any free ones. */
  readonly triggerPorts?: { readonly webhooks?: number; readonly callbacks?: number };
  readonly switches?: Partial<Switches>;
  /** Whether `/_simulator/…` is served. Default true. */
  readonly control?: boolean;
  /** Requests that are remembered; the counts include all. Default 100,000. */
  readonly recordSize?: number;
  /** An idle connection is closed after this. Default 60,000. */
  readonly keepAliveTimeoutMs?: number;
}

export const FAKE_PRIMARY_KEY = 'fake-patchworks-key-primary';
export const FAKE_SPARE_KEY = 'fake-patchworks-key-spare';
export const FAKE_USER = 'integrations@example.test';
export const FAKE_PASSWORD = 'fake-password';

/** The default account. */
export const MAIN_ACCOUNT = 'main';

export type CompleteOptions = ReturnType<typeof withDefaults>;

/** Throws a TypeError that names the option. */
export function withDefaults(options: SimulatorOptions) {
  const port = wholeFrom(0, 'port', options.port ?? 0);
  if (port > 65_535) throw new TypeError('option port must be at most 65535');
  return {
    port,
    host: options.host ?? '127.0.0.1',
    clock: options.clock ?? systemClock,
    seed: wholeFrom(0, 'seed', options.seed ?? 1),
    accounts: accountsOf(options),
    triggers: options.triggers ?? null,
    triggerPorts: options.triggerPorts ?? {},
    control: options.control ?? true,
    recordSize: wholeFrom(1, 'recordSize', options.recordSize ?? 100_000),
    keepAliveTimeoutMs: wholeFrom(1, 'keepAliveTimeoutMs', options.keepAliveTimeoutMs ?? 60_000),
    switches: { ...DEFAULT_SWITCHES, ...checkedSwitches(options.switches ?? {}) } satisfies Switches as Switches,
  };
}

function accountsOf({ accounts, apiKeys, users }: SimulatorOptions): ReadonlyMap<string, AccountOptions> {
  if (accounts === undefined) {
    const main = {
      apiKeys: apiKeys ?? { primary: FAKE_PRIMARY_KEY, spare: FAKE_SPARE_KEY },
      users: users ?? { [FAKE_USER]: FAKE_PASSWORD },
    };
    return new Map([[MAIN_ACCOUNT, main]]);
  }
  if (apiKeys !== undefined || users !== undefined) {
    throw new TypeError('give either accounts, or apiKeys and users of the one account');
  }
  const entries = Object.entries(accounts);
  if (entries.length === 0) throw new TypeError('option accounts names no account');
  const taken = new Set<string>();
  for (const [id, account] of entries) {
    const { tier, limit, operations } = account;
    checkedTerms({ tier, limit, operations }, `option accounts.${id}.`);
    // A credential of two accounts would not say which account a request belongs to.
    for (const secret of [...Object.values(account.apiKeys ?? {}), ...Object.keys(account.users ?? {})]) {
      if (taken.has(secret)) throw new TypeError(`a credential of account ${id} belongs to another account as well`);
      taken.add(secret);
    }
  }
  return new Map(entries);
}

function wholeFrom(least: number, name: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < least) {
    throw new TypeError(`option ${name} must be a whole number from ${least}`);
  }
  return value;
}
