import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createMemoryCache } from './adapters/memory/cache.ts';
import { createUndiciSender } from './adapters/undici/sender.ts';
import { type Authenticated, authenticate } from './auth/authenticate.ts';
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
import { keyExpiriesOf, keyRingOf } from './gateway/derive.ts';
import { openGuards } from './gateway/guards.ts';
import { observerOf } from './gateway/observer.ts';
import type { Parts } from './gateway/parts.ts';
import { drawStack } from './gateway/stack.ts';
import { openState } from './gateway/state.ts';
import { statusOf } from './gateway/status.ts';
import { announceQuota } from './quota/fields.ts';
import { createWaitingRoom } from './quota/waiting.ts';
import { createLogger, type Logger } from './telemetry/logger.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';
import { createRedactor } from './telemetry/redact.ts';

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
  /** Not ready at once; with the delay, goes on accepting for a while; finishes what is in flight; then closes. */
  drain(how: { readonly signal: string; readonly withDelay: boolean }): Promise<void>;
  /** Ends at once, whatever is in flight. */
  close(): Promise<void>;
}

/** The composition root: opens what the gateway stands on, draws the stack, and closes it all again. */
export function createGateway(options: GatewayOptions): Gateway {
  const { settings } = options;
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
  const guards = openGuards({ settings, clock, meter: metrics, redis: state.redis });
  const base = {
    ...guards,
    settings,
    clock,
    random,
    log,
    metrics,
    redactor,
    state,
    ledger,
    room,
    sender,
    keys: keyRingOf(settings),
  };
  const parts: Parts = { ...base, credentials: credentialPools(base) };
  const startedAt = clock.now();
  metrics.configLoaded('ok', startedAt / 1000);

  const proxy = drawStack(parts, store);
  const own: Handler<Received> = authenticate<Received>(parts)(
    announceQuota<Received & Authenticated>(parts)(whoami(parts)),
  );
  const traffic = createTraffic({
    clock,
    log,
    limits: settings.limits,
    bodyBytes: settings.limits.bodyBytes,
    clientAddress: clientAddressOf(settings.listen.trustedProxies),
    handler: () => proxy,
    whoami: () => own,
    observer: observerOf(parts),
  });

  let draining = false;
  const admin = createAdminServer(
    createAdminApp({
      token: settings.listen.admin.token,
      readiness: () => ({ ready: !draining, reasons: draining ? ['draining'] : [] }),
      metrics: async () => ({ contentType: metrics.contentType, text: await metrics.render() }),
      status: () => ({
        ...statusOf(parts),
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
    for (const pool of parts.credentials.values()) pool.close();
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
      const { log: logger } = parts;
      if (inTime) logger.info({}, 'drained');
      else logger.warn({ inFlight: traffic.inFlight() }, 'drain timed out: what is in flight is cut off');
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
