import type { Clock } from '../clock.ts';
import { systemClock } from '../clock.ts';

/** Times in milliseconds that requests spend on the way; drawn anew for each. */
export type Latency =
  | { readonly kind: 'fixed'; readonly ms: number }
  | { readonly kind: 'uniform'; readonly minMs: number; readonly maxMs: number }
  /** Exponential above a floor: most are quick, a few take long. */
  | { readonly kind: 'exponential'; readonly minMs: number; readonly meanMs: number; readonly maxMs: number };

/** Behaviour that may be switched while it runs. What the documentation leaves open is a switch here. */
export interface Switches {
  /** Requests in a window. */
  limit: number;
  windowMs: number;
  /** Whose requests are counted together: the account's, or each credential's. */
  scope: 'account' | 'key';
  /** Whether logins are counted as well. */
  countLogins: boolean;
  /** 429 as an ingress sends it, with none of the limit headers. */
  bareThrottle: boolean;
  /** Whether `Bearer <api key>` is taken for the key. */
  bearerApiKey: boolean;
  /** Items flat, or as `{id, type, attributes}`. */
  shape: 'flat' | 'attributes';
  /** `per_page` above 100: taken as 100, or refused with 422. */
  largePages: 'clamp' | 'refuse';
  /** Without `Accept: application/json` errors are HTML pages. */
  htmlErrors: boolean;
  /** From the caller to the counter. */
  arrivalLatency: Latency;
  /** From the counter to the answer. */
  answerLatency: Latency;
  tokenLifeSeconds: number;
  /** How long a run is under way. */
  runMs: number;
}

export interface SimulatorOptions {
  /** Default 0: any free one. */
  readonly port?: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  readonly clock?: Clock;
  /** Seed of data, latency and tokens: the same seed, the same simulator. Default 1. */
  readonly seed?: number;
  /** Key id → key. Default: a primary and a spare, obviously fake. */
  readonly apiKeys?: Readonly<Record<string, string>>;
  /** Username or email → password. */
  readonly users?: Readonly<Record<string, string>>;
  readonly switches?: Partial<Switches>;
  /** Whether `/_simulator/…` is served. Default true. */
  readonly control?: boolean;
  /** Requests remembered one by one; counts go on. Default 100,000. */
  readonly recordSize?: number;
}

export const FAKE_PRIMARY_KEY = 'fake-patchworks-key-primary';
export const FAKE_SPARE_KEY = 'fake-patchworks-key-spare';
export const FAKE_USER = 'integrations@example.test';
export const FAKE_PASSWORD = 'fake-password';

const NONE: Latency = { kind: 'fixed', ms: 0 };

export function withDefaults(options: SimulatorOptions) {
  const switches: Switches = {
    limit: 240,
    windowMs: 60_000,
    scope: 'account',
    countLogins: false,
    bareThrottle: false,
    bearerApiKey: false,
    shape: 'flat',
    largePages: 'clamp',
    htmlErrors: true,
    arrivalLatency: NONE,
    answerLatency: NONE,
    tokenLifeSeconds: 86_400,
    runMs: 5_000,
    ...options.switches,
  };
  if (!(switches.limit >= 1)) throw new RangeError('limit must be at least 1');
  return {
    port: options.port ?? 0,
    host: options.host ?? '127.0.0.1',
    clock: options.clock ?? systemClock,
    seed: options.seed ?? 1,
    apiKeys: options.apiKeys ?? { primary: FAKE_PRIMARY_KEY, spare: FAKE_SPARE_KEY },
    users: options.users ?? { [FAKE_USER]: FAKE_PASSWORD },
    control: options.control ?? true,
    recordSize: options.recordSize ?? 100_000,
    switches,
  };
}

/** A small generator with a seed (mulberry32): good enough for test data, and the same on every machine. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function draw(latency: Latency, random: () => number): number {
  switch (latency.kind) {
    case 'fixed':
      return latency.ms;
    case 'uniform':
      return latency.minMs + random() * (latency.maxMs - latency.minMs);
    case 'exponential': {
      const above = -Math.log(1 - random()) * Math.max(0, latency.meanMs - latency.minMs);
      return Math.min(latency.maxMs, latency.minMs + above);
    }
  }
}
