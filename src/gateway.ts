import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createMemoryCache } from './adapters/memory/cache.ts';
import { createUndiciSender } from './adapters/undici/sender.ts';
import { type Authenticated, authenticate } from './auth/authenticate.ts';
import { createDrops } from './cache/drops.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Settings } from './config/model.ts';
import { redactedSettings } from './config/redacted.ts';
import { createAdminApp, createAdminServer } from './edge/admin.ts';
import { clientAddressOf } from './edge/client-address.ts';
import { closeServer, listen } from './edge/ports.ts';
import { createTraffic } from './edge/traffic.ts';
import { whoami } from './edge/whoami.ts';
import type { Handler, Received } from './exchange.ts';
import { credentialPools } from './gateway/credentials.ts';
import { keyExpiriesOf, keyRingOf, planOf } from './gateway/derive.ts';
import { openGuards } from './gateway/guards.ts';
import { observerOf } from './gateway/observer.ts';
import type { Parts } from './gateway/parts.ts';
import { reloadable, sameCredentials } from './gateway/reload.ts';
import { drawStack } from './gateway/stack.ts';
import { openState } from './gateway/state.ts';
import { statusOf } from './gateway/status.ts';
import { announceQuota } from './quota/fields.ts';
import { createWaitingRoom } from './quota/waiting.ts';
import { createLogger, type Logger } from './telemetry/logger.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';
import { createRedactor } from './telemetry/redact.ts';
import type { CredentialPool } from './upstream/credentials.ts';

export interface GatewayOptions {
  readonly settings: Settings;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Where log lines go; default: standard output. */
  readonly logTo?: { write(line: string): void };
}

export type Started =
  | { readonly ok: true; readonly traffic: AddressInfo; readonly admin: AddressInfo }
  | { readonly ok: false; readonly reason: string };

export interface Gateway {
  readonly log: Logger;
  /** Binds both ports. */
  start(): Promise<Started>;
  /** Other settings take effect: no request is lost, and no bucket is refilled or emptied. */
  reload(settings: Settings): void;
  /** They could not be loaded: told and counted, and the old ones stay. */
  refuseReload(problems: readonly string[]): void;
  /** Not ready at once; with the delay, goes on accepting for a while; finishes what is in flight; then closes. */
  drain(how: { readonly signal: string; readonly withDelay: boolean }): Promise<void>;
  /** Ends at once, whatever is in flight. */
  close(): Promise<void>;
}

/** The composition root: opens what the gateway stands on, draws the stack, and closes it all again. */
export function createGateway(options: GatewayOptions): Gateway {
  // What is in force: a reload puts another in its place.
  let { settings } = options;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const version = packageVersion();
  const redactor = createRedactor();
  for (const secret of settings.secrets) redactor.add(secret.reveal());
  const log = createLogger({
    level: settings.log.level,
    version,
    redactor,
    ...(options.logTo && { destination: options.logTo }),
  });

  const metrics: Metrics = createMetrics({
    version,
    sources: {
      accounts: () =>
        [...settings.accounts.keys()].map((id) => ({ id, ...ledger.view(id), waiting: room.waiting(id) })),
      cache: () => store.size(),
      keyExpiries: () => keyExpiriesOf(settings),
      state: () => state.reading(),
      logLinesDropped: () => log.dropped(),
    },
  });
  const state = openState({ settings, clock, meter: metrics, log, onChange: () => room.reconsider() });
  const { ledger } = state;
  const room = createWaitingRoom({ ledger, clock });
  const store = createMemoryCache({ maxBytes: settings.cache.memoryBytes, clock, meter: metrics });
  const sender = createUndiciSender({ clock });
  // Beside the store, not in the stack: a stack drawn anew must know what was dropped before.
  const cached = { store, drops: createDrops() };
  const guards = openGuards({ settings, clock, meter: metrics, redis: state.redis });
  const draw = (kept: ReadonlyMap<string, CredentialPool>) => {
    const keys = keyRingOf(settings);
    const base = { ...guards, settings, clock, random, log, metrics, redactor, state, ledger, room, sender, keys };
    const parts: Parts = { ...base, credentials: credentialPools(base, kept) };
    const own: Handler<Received> = authenticate<Received>(parts)(
      announceQuota<Received & Authenticated>(parts)(whoami(parts)),
    );
    return { parts, own, proxy: drawStack(parts, cached) };
  };
  let live = draw(new Map());
  const startedAt = clock.now();
  metrics.configLoaded('ok', startedAt / 1000);
  const traffic = createTraffic({
    clock,
    log,
    limits: settings.limits,
    bodyBytes: settings.limits.bodyBytes,
    clientAddress: clientAddressOf(settings.listen.trustedProxies),
    handler: () => live.proxy,
    whoami: () => live.own,
    observer: observerOf(live.parts),
  });

  let draining = false;
  const admin = createAdminServer(
    createAdminApp({
      token: settings.listen.admin.token,
      readiness: () => ({ ready: !draining, reasons: draining ? ['draining'] : [] }),
      metrics: async () => ({ contentType: metrics.contentType, text: await metrics.render() }),
      status: () => ({
        ...statusOf(live.parts),
        version,
        upSeconds: Math.round((clock.now() - startedAt) / 1000),
        draining,
        inFlight: traffic.inFlight(),
        cache: store.size(),
      }),
      config: () => redactedSettings(settings),
      log,
    }),
  );

  const close = async (): Promise<void> => {
    traffic.server.closeAllConnections();
    admin.closeAllConnections();
    await Promise.all([closeServer(traffic.server), closeServer(admin)]);
    for (const pool of live.parts.credentials.values()) pool.close();
    await sender.close();
    await state.stop();
    log.flush();
  };

  return {
    log,
    async start() {
      // Whoever asks before this replica has joined waits for it like for a slot.
      await Promise.race([state.start(), elapsed(clock, JOIN_MS)]);
      const onTraffic = await listen(traffic.server, settings.listen.traffic, 'traffic');
      if (!onTraffic.ok) return onTraffic;
      const onAdmin = await listen(admin, settings.listen.admin, 'admin');
      if (!onAdmin.ok) return onAdmin;
      const { revision, tenants, accounts } = settings;
      log.info(
        {
          traffic: onTraffic.address,
          admin: onAdmin.address,
          revision,
          tenants: tenants.size,
          accounts: accounts.size,
        },
        'listening',
      );
      return { ok: true, traffic: onTraffic.address, admin: onAdmin.address };
    },
    reload(next) {
      const { settings: applied, kept } = reloadable(settings, next);
      for (const secret of applied.secrets) redactor.add(secret.reveal());
      const pools = live.parts.credentials;
      const going = new Map([...pools].filter(([id]) => sameCredentials(settings, applied, id)));
      settings = applied;
      ledger.configure(planOf(settings));
      live = draw(going);
      // Requests under way go on with what they began with; a pool that is closed only stops renewing.
      for (const [id, pool] of pools) if (!going.has(id)) pool.close();
      metrics.keepTenants(new Set(settings.tenants.keys()));
      log.setLevel(settings.log.level);
      metrics.configLoaded('ok', clock.now() / 1000);
      room.reconsider();
      const { revision, tenants, accounts } = settings;
      log.info({ revision, tenants: tenants.size, accounts: accounts.size }, 'configuration reloaded');
      for (const name of kept) log.warn({ option: name }, 'changed, but takes effect only after a restart');
    },
    refuseReload(problems) {
      metrics.configLoaded('refused', clock.now() / 1000);
      log.error({ problems }, 'the new configuration is refused; the old one stays');
    },
    async drain({ signal, withDelay }) {
      draining = true;
      traffic.closeConnections();
      log.info({ signal, inFlight: traffic.inFlight() }, 'draining');
      if (withDelay) await elapsed(clock, settings.drain.delayMs);
      // Nobody waits for a slot of a replica that is going: another one may have it at once.
      room.close();
      const closed = closeServer(traffic.server);
      traffic.server.closeIdleConnections();
      const inTime = await Promise.race([
        Promise.all([closed, traffic.idle()]).then(() => true),
        elapsed(clock, settings.drain.timeoutMs).then(() => false),
      ]);
      if (inTime) log.info({}, 'drained');
      else log.warn({ inFlight: traffic.inFlight() }, 'drain timed out: what is in flight is cut off');
      await close();
    },
    close,
  };
}

/** How long a start waits for Redis at most. */
const JOIN_MS = 300;

function elapsed(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8');
  return String((JSON.parse(text) as { version: unknown }).version);
}
