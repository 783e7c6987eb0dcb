import { createSimulator } from '../../src/simulator/simulator.ts';
import { fastClock } from './fast-clock.ts';
import { configuration, type Running, run, sha256 } from './gateway.ts';

/** Requests a minute that each tenant wants on the average. */
const WANTED = { 'order-sync': 120, 'stock-levels': 85, billing: 65, reporting: 40, webshop: 45, returns: 10 };

export interface Workload {
  readonly gateway: Running;
  /** Patchworks answers one request with 429. */
  throttle(seconds: number): void;
  /** Others use the account. */
  useExternally(count: number): void;
  /** Lets this many minutes of the office's time pass, with all of it at work. */
  work(minutes: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * A team at work: six services of different appetite behind one gateway and a simulated Patchworks, on a clock on which
 * minutes pass in seconds. What they want comes in waves; part of it can be cached.
 */
export async function runWorkload(factor: number): Promise<Workload> {
  const clock = fastClock(factor);
  const simulator = await createSimulator({ clock });
  const keyOf = (id: string) => `fake-key-${id}`;
  const tenants = Object.keys(WANTED).map((id) => {
    const quota = id === 'reporting' ? { rate: 30, burst: 10, maxWait: '2s' } : { burst: 100, maxWait: '30s' };
    return [id, { keys: [{ id: 'only', sha256: sha256(keyOf(id)) }], quota }];
  });
  const gateway = await run({
    ...{ clock, upstream: simulator, cold: true },
    config: (upstream) =>
      configuration(upstream, {
        tenants: Object.fromEntries(tenants),
        log: { level: 'warn' },
        cache: { rules: [{ match: 'GET /api/v1/flows/**', ttl: '30s' }] },
      }),
  });
  let sent = 0;
  const send = async (id: string): Promise<void> => {
    sent += 1;
    const path = id === 'order-sync' || sent % 5 < 3 ? 'flow-runs' : `flows/${1 + (sent % 20)}`;
    const answer = await fetch(`${gateway.url}/api/v1/${path}`, { headers: { 'X-API-Key': keyOf(id) } });
    await answer.arrayBuffer();
  };
  const day = async (id: string, perMinute: number, phase: number, until: number): Promise<void> => {
    const open: Promise<void>[] = [];
    while (clock.monotonic() < until) {
      const wave = 0.6 + 0.4 * Math.sin(clock.monotonic() / 150_000 + phase);
      open.push(send(id));
      await new Promise<void>((resolve) => clock.after(60_000 / (perMinute * wave), resolve));
    }
    await Promise.all(open);
  };
  return {
    gateway,
    throttle: (seconds) => {
      const fault = { kind: 'status', status: 429, headers: { 'Retry-After': String(seconds) }, body: '' } as const;
      simulator.fault({ match: 'GET /api/v1/**', times: 1, fault });
    },
    useExternally: (count) => void simulator.useExternally(count),
    async work(minutes) {
      const until = clock.monotonic() + minutes * 60_000;
      const keepAwake = setInterval(() => {}, 1_000);
      await Promise.all(Object.entries(WANTED).map(([id, wanted], i) => day(id, wanted, i, until)));
      clearInterval(keepAwake);
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await simulator.close();
    },
  };
}
