import type { AddressInfo } from 'node:net';
import { createMemoryCache } from './adapters/memory/cache.ts';
import { createUndiciTransport } from './adapters/undici/transport.ts';
import { type Clock, elapsed, systemClock } from './clock.ts';
import type { Settings } from './config/model.ts';
import { redactedSettings } from './config/redacted.ts';
import { createAdminApp, createAdminServer } from './edge/admin.ts';
import { createEvents } from './edge/events.ts';
import { composePage } from './edge/page/page.ts';
import { closeServer, listen } from './edge/ports.ts';
import type { ReloadOutcome } from './edge/reload.ts';
import { createTraffic } from './edge/traffic.ts';
import { openCache } from './gateway/cache.ts';
import { createConfigSnapshots } from './gateway/config-snapshots.ts';
import { credentialsOf } from './gateway/credentials.ts';
import type { SharedDependencies } from './gateway/dependencies.ts';
import { certificatesOf, keyExpiriesOf, standingOf } from './gateway/derive.ts';
import { fitted } from './gateway/fixed.ts';
import { openGuards } from './gateway/guards.ts';
import { listenerOptions } from './gateway/listener-options.ts';
import { createLoads } from './gateway/loads.ts';
import { purgeCache } from './gateway/purge.ts';
import { openQuotaBackend } from './gateway/quota-backend.ts';
import { requestTelemetry } from './gateway/request-telemetry.ts';
import { sealingKeyOf } from './gateway/sealing.ts';
import { createStatus } from './gateway/status.ts';
import { openTracing } from './gateway/tracing.ts';
import { packageVersion } from './gateway/version.ts';
import { createWaitingRoom } from './quota/waiting.ts';
import { createLogger, type Logger } from './telemetry/logger.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';
import { createRedactor } from './telemetry/redact.ts';
import { createUpstreams } from './upstream/upstreams.ts';

export interface GatewayOptions {
  readonly settings: Settings;
  readonly clock?: Clock;
  readonly random?: () => number;
  /** Loads the configuration again, for `POST /reload`; left out where there are no files to load. */
  readonly reload?: () => Promise<ReloadOutcome>;
  /** Where log lines go; default: standard output. */
  readonly logTo?: { write(line: string): void };
}

export type Started =
  | { readonly ok: true; readonly traffic: AddressInfo; readonly admin: AddressInfo }
  | { readonly ok: false; readonly reason: string };

export interface Gateway {
  readonly log: Logger;
  /** Joins the other replicas, then binds both ports. */
  start(): Promise<Started>;
  /**
   * Puts settings in force for all requests from now on; those in flight end with what they began with. What can not change
   * while the gateway runs stays as it is, and is named in the log and in the outcome.
   */
  reload(settings: Settings): ReloadOutcome;
  /** They could not be loaded: told and counted, and the old ones stay. */
  refuseReload(problems: readonly string[]): ReloadOutcome;
  /** Not ready at once; with the delay, goes on accepting for a while; finishes what is in flight; then closes. */
  drain(how: { readonly signal: string; readonly withDelay: boolean }): Promise<void>;
  /** Ends at once, whatever is in flight. */
  close(): Promise<void>;
}

/** The composition root: opens what the gateway stands on, draws the stack, and closes it all again. */
export function createGateway(options: GatewayOptions): Gateway {
  const opened = options.settings;
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const version = packageVersion();
  const redactor = createRedactor();
  for (const secret of opened.secrets) redactor.add(secret.reveal());
  const log = createLogger({
    level: opened.log.level,
    version,
    redactor,
    ...(options.logTo && { destination: options.logTo }),
  });

  const metrics: Metrics = createMetrics({
    version,
    sources: {
      accounts: () =>
        [...settings().accounts.keys()].map((id) => ({ id, ...ledger.view(id), waiting: room.waiting(id) })),
      cache: () => memory.size(),
      upstreams: () => upstreams.statuses(),
      keyExpiries: () => keyExpiriesOf(settings()),
      credentials: () => credentialsOf(generations.current()),
      revision: () => settings().revision,
      state: () => state.status(),
      certificates: () => certificatesOf(settings()),
      logLinesDropped: () => log.dropped(),
    },
    onUnreadable: (family, error) => log.error({ family, err: error }, 'a family of metrics can not be read'),
  });
  const state = openQuotaBackend({ settings: opened, clock, meter: metrics, log, onChange: () => room.reconsider() });
  const { ledger } = state;
  const room = createWaitingRoom({ ledger, clock, standing: (tenant) => standingOf(settings(), tenant) });
  const memory = createMemoryCache({ maxBytes: opened.cache.memoryBytes, clock, meter: metrics });
  const cache = openCache({ settings: opened, memory, clock, meter: metrics, log });
  const sender = createUndiciTransport({ clock });
  const upstreams = createUpstreams({ upstreams: opened.upstreams, clock, random, log });
  const tracing = openTracing({ settings: opened, version, clock, meter: metrics, log });
  const guards = openGuards({ settings: opened, clock, meter: metrics, redis: state.redis });
  const lasting: SharedDependencies = {
    ...{
      clock,
      random,
      log,
      metrics,
      redactor,
      state,
      ledger,
      room,
      sender,
      upstreams,
      memory,
      cache,
      replays: cache.replays,
      logins: cache.logins,
    },
    ...guards,
  };
  const generations = createConfigSnapshots(lasting, opened);
  const settings = (): Settings => generations.current().dependencies.settings;
  const doors = listenerOptions({ settings: opened, metrics, log });
  const traffic = createTraffic({
    clock,
    log,
    limits: opened.limits,
    ...doors.traffic,
    bodyBytes: () => settings().limits.bodyBytes,
    clientAddress: (incoming) => generations.current().clientAddress(incoming),
    scheme: (incoming) => generations.current().scheme(incoming),
    handler: () => generations.current().pipeline,
    whoami: () => generations.current().whoami,
    observer: requestTelemetry(lasting),
    tracer: tracing.tracer,
  });

  /** By account, whether writes through other replicas are heard of. */
  const inTouch = () =>
    Object.fromEntries(
      [...settings().accounts.keys()].map((id) => [id, cache.invalidations.disconnectedSince(id) === null]),
    );
  let draining = false;
  const status = createStatus({
    ...{ clock, version, inTouch, usage: metrics.usage },
    generation: () => generations.current(),
    draining: () => draining,
    inFlight: () => traffic.inFlight(),
    needsRestart: () => loads.needsRestart(),
  });
  const events = createEvents({ frames: status.frames, clock, log });
  const loads = createLoads({ clock, log, redactor, meter: metrics, status, events });
  const page = composePage();
  const drawAdmin = () =>
    createAdminApp({
      token: settings().listen.admin.token,
      readiness: () => ({ ready: !draining, reasons: draining ? ['draining'] : [] }),
      metrics: async () => ({ contentType: metrics.contentType, text: await metrics.render() }),
      status: () => status.document(),
      config: () => redactedSettings(settings()),
      purge: (purge) => purgeCache(generations.current().dependencies, purge),
      reload: options.reload ?? null,
      ...{ page, events, log },
    });
  let adminApp = drawAdmin();
  const admin = createAdminServer({ fetch: (request, env) => adminApp.fetch(request, env) }, doors.admin);

  const close = async (): Promise<void> => {
    status.stop();
    events.close();
    traffic.destroyConnections();
    admin.destroyConnections();
    await Promise.all([closeServer(traffic.server), closeServer(admin.server)]);
    generations.close();
    await sender.close();
    await Promise.all([state.stop(), cache.stop(), tracing.stop()]);
    log.flush();
  };

  /** Who waits for a slot is in flight like all others; but when time runs out it gets a 503 in place of a broken connection. */
  const timedOut = async (timeoutMs: number): Promise<false> => {
    const lastWordsMs = Math.min(LAST_WORDS_MS, timeoutMs / 2);
    await elapsed(clock, timeoutMs - lastWordsMs);
    room.close();
    upstreams.close();
    await elapsed(clock, lastWordsMs);
    return false;
  };

  return {
    log,
    async start() {
      // Requests that arrive before this replica has joined wait for it as they wait for a slot.
      const joined = Promise.all([state.start(), cache.follow([...opened.accounts.keys()])]);
      await Promise.race([joined, elapsed(clock, JOIN_MS)]);
      await tracing.start();
      status.start();
      const onTraffic = await listen(traffic.server, opened.listen.traffic, 'traffic');
      if (!onTraffic.ok) return onTraffic;
      const onAdmin = await listen(admin.server, opened.listen.admin, 'admin');
      if (!onAdmin.ok) return onAdmin;
      loads.listening(opened, { traffic: onTraffic.address, admin: onAdmin.address });
      return { ok: true, traffic: onTraffic.address, admin: onAdmin.address };
    },
    reload(next) {
      const fit = fitted(opened, next);
      const before = settings();
      traffic.renew(fit.settings.listen.traffic.tls);
      admin.renew(fit.settings.listen.admin.tls);
      generations.replace(fit.settings);
      void cache.follow([...fit.settings.accounts.keys()]);
      cache.logins?.useKeys((fit.settings.redis?.encryption ?? []).map(sealingKeyOf));
      adminApp = drawAdmin();
      return loads.took(next, fit, before);
    },
    refuseReload: loads.refused,
    async drain({ signal, withDelay }) {
      draining = true;
      events.push();
      traffic.closeConnections();
      log.info({ signal, inFlight: traffic.inFlight() }, 'draining');
      if (withDelay) await elapsed(clock, settings().drain.delayMs);
      const inTime = await Promise.race([
        traffic
          .leave()
          .then(() => generations.idle())
          .then(() => true),
        timedOut(settings().drain.timeoutMs),
      ]);
      if (inTime) log.info({}, 'drained');
      else log.warn({ inFlight: traffic.inFlight() }, 'drain traced out: what is in flight is cut off');
      await close();
    },
    close,
  };
}

/** What is left of a drain when those who still wait for a slot are sent elsewhere. */
const LAST_WORDS_MS = 500;
/** How long a start waits for Redis at most. */
const JOIN_MS = 300;
