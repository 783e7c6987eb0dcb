import { type Clock, elapsed } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import { redactedSettings } from '../config/redacted.ts';
import { createAdminApp, createAdminServer } from '../edge/admin.ts';
import { createEvents } from '../edge/events.ts';
import { composePage } from '../edge/page/page.ts';
import { closeServer, listen } from '../edge/ports.ts';
import type { Purge } from '../edge/purge.ts';
import type { ReloadOutcome } from '../edge/reload.ts';
import { doorsOf } from '../gateway/doors.ts';
import { fitted } from '../gateway/fixed.ts';
import { createLoads } from '../gateway/loads.ts';
import type { Purged } from '../gateway/purge.ts';
import { packageVersion } from '../gateway/version.ts';
import type { Gateway } from '../gateway.ts';
import { createLogger } from '../telemetry/logger.ts';
import { createRedactor } from '../telemetry/redact.ts';
import { createCrew } from './crew.ts';
import { createDoor } from './door.ts';
import { createFleetMetrics } from './fleet-metrics.ts';
import { createFleetStatus } from './fleet-status.ts';

export interface PrimaryOptions {
  readonly settings: Settings;
  /** Two at least. */
  readonly workers: number;
  readonly clock: Clock;
  readonly reload: () => Promise<ReloadOutcome>;
  /** Workers end again and again: nothing can be served. */
  readonly onGivenUp: (reason: string) => void;
}

/** What stands in the place of a gateway where several processes are one. */
export interface Primary extends Pick<Gateway, 'log' | 'start' | 'refuseReload' | 'close'> {
  reload(settings: Settings): Promise<ReloadOutcome>;
  drain(how: { readonly signal: string; readonly withDelay: boolean }): Promise<void>;
}

const PURGE_MS = 10_000;
/** A worker cuts off what is in flight after `drain.timeout` and then closes; one that hangs is killed by this time. */
const CLOSING_MS = 5_000;

/**
 * The process that watches the workers: it accepts connections and deals them out, reads the configuration, and has the admin
 * port. It reads nothing of what callers send (docs/decisions/0023).
 */
export function createPrimary(options: PrimaryOptions): Primary {
  const { settings: opened, workers, clock } = options;
  const version = packageVersion();
  const redactor = createRedactor();
  const redact = ({ secrets }: Settings): void => {
    for (const secret of secrets) redactor.add(secret.reveal());
  };
  redact(opened);
  const log = createLogger({ level: opened.log.level, version, redactor, worker: 0 });
  let settings = opened;
  let draining = false;
  let restarts = 0;

  const metrics = createFleetMetrics({
    version,
    settings: () => settings,
    logLinesDropped: () => log.dropped(),
    onUnreadable: (family, error) => log.error({ family, err: error }, 'a family of metrics can not be read'),
  });
  const { own } = metrics;
  const crew = createCrew({
    count: workers,
    opened,
    settings: () => settings,
    ...{ clock, log },
    onRestart: () => {
      restarts += 1;
      own.workerRestarted();
    },
    onGone: metrics.gone,
    onGivenUp: (reason) => {
      log.error({}, reason);
      options.onGivenUp(reason);
    },
  });
  const door = createDoor((socket) => crew.handout.accept(socket));

  const status = createFleetStatus({
    ...{ crew, clock, redactor, version },
    configured: workers,
    settings: () => settings,
    draining: () => draining,
    restarts: () => restarts,
    needsRestart: () => loads.needsRestart(),
    watched: () => events.listeners() > 0,
  });
  const events = createEvents({ frames: status.frames, clock, log });
  const loads = createLoads({ clock, log, redactor, meter: own, status, events, silent: false });
  const page = composePage();
  const readiness = () => {
    const reasons = [...(draining ? ['draining'] : []), ...(crew.members().length === 0 ? ['no worker is ready'] : [])];
    return { ready: reasons.length === 0, reasons };
  };
  const drawAdmin = () =>
    createAdminApp({
      token: settings.listen.admin.token,
      readiness,
      metrics: async () => ({ contentType: own.contentType, text: await metrics.render(crew) }),
      status: () => status.document(),
      config: () => redactedSettings(settings),
      purge,
      reload: options.reload,
      page,
      events: {
        attach: async (outgoing) => {
          await status.look(true);
          return events.attach(outgoing);
        },
      },
      log,
    });
  /** Each has a memory of its own; where Redis does not answer, they would not hear of it from each other. */
  const purge = async (what: Purge): Promise<Purged> => {
    const answers = await crew.askAll({ about: 'purge', purge: what }, PURGE_MS);
    const [first] = answers;
    const failed = answers.find(({ answer }) => !answer.ok);
    if (first === undefined) throw new Error('no worker has answered');
    return (failed ?? first).answer;
  };
  let adminApp = drawAdmin();
  const doors = doorsOf({ settings: opened, metrics: own, log });
  const admin = createAdminServer({ fetch: (request, env) => adminApp.fetch(request, env) }, doors.admin);

  const close = async (): Promise<void> => {
    status.stop();
    events.close();
    door.close();
    crew.kill();
    crew.handout.close();
    admin.destroyConnections();
    await closeServer(admin.server);
    log.flush();
  };

  return {
    log,
    async start() {
      const failed = await crew.open();
      if (failed !== null) return { ok: false, reason: failed };
      const onTraffic = await door.listen(opened.listen.traffic);
      if (!onTraffic.ok) return onTraffic;
      const onAdmin = await listen(admin.server, opened.listen.admin, 'admin');
      if (!onAdmin.ok) return onAdmin;
      await status.look(false);
      status.start();
      loads.listening(opened, { traffic: onTraffic.address, admin: onAdmin.address, workers });
      return { ok: true, traffic: onTraffic.address, admin: onAdmin.address };
    },
    async reload(next) {
      const fit = fitted(opened, next);
      const before = settings;
      redact(fit.settings);
      settings = fit.settings;
      adminApp = drawAdmin();
      admin.renew(settings.listen.admin.tls);
      log.setLevel(settings.log.level);
      // All of it: what a worker keeps until a restart it finds for itself, by what it was opened with.
      await crew.reload(settings);
      metrics.keepTenants(new Set(settings.tenants.keys()));
      return loads.took(next, fit, before);
    },
    refuseReload: loads.refused,
    async drain({ signal, withDelay }) {
      draining = true;
      events.push();
      log.info({ signal, workers: crew.members().length }, 'draining');
      crew.drain(signal);
      if (withDelay) await elapsed(clock, settings.drain.delayMs);
      const { timeoutMs } = settings.drain;
      await door.shut();
      await Promise.race([crew.handout.idle(), elapsed(clock, timeoutMs)]);
      const inTime = await crew.leave(timeoutMs + CLOSING_MS);
      if (inTime) log.info({}, 'drained');
      else log.warn({}, 'drain timed out: a worker was killed');
      await close();
    },
    close,
  };
}
