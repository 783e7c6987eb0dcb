import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { ReloadOutcome } from '../admin/app.ts';
import type { Actor } from '../admin/audit.ts';
import { type Clock, elapsed, type Random, systemClock } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import { applicable } from '../reload/restart-only.ts';
import { closeServer, type ListenerTls, listen } from '../server/listener.ts';
import { createTrafficServer } from '../server/traffic.ts';
import type { Logger } from '../telemetry/log.ts';
import { requestTelemetry } from '../telemetry/request-telemetry.ts';
import { openAdminPort } from './admin-port.ts';
import { createConfigSnapshots } from './config-snapshot.ts';
import type { SharedDependencies } from './dependencies.ts';
import { openDependencies } from './open-dependencies.ts';

interface GatewayOptions {
  readonly settings: Settings;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Loads the configuration again, for `POST /reload`; left out where there are no files to load. */
  readonly reload?: (by: Actor) => Promise<ReloadOutcome>;
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
   * Puts settings in force for all requests from now on; those in flight end with what they began with. Restart-only options
   * stay as they are, and are named in the log and in the outcome.
   *
   * @param by all who asked for it, for the audit trail
   */
  reload(settings: Settings, by: readonly Actor[]): ReloadOutcome;
  /** Reports and counts a configuration that could not be loaded; the old settings stay. */
  refuseReload(problems: readonly string[], by: readonly Actor[]): ReloadOutcome;
  /** Reports not ready at once, accepts for the delay, finishes requests in flight within `drain.timeout`, then closes. */
  drain(how: { readonly signal: string; readonly withDelay: boolean }): Promise<void>;
  /** Ends at once, whatever is in flight. */
  close(): Promise<void>;
}

/** The composition root: opens the dependencies and both ports, and closes them in the reverse order. */
export function createGateway(options: GatewayOptions): Gateway {
  const { settings: opened, clock = systemClock, random = Math.random, logTo } = options;
  const version = packageVersion();
  const { shared, tracing } = openDependencies({
    ...{ settings: opened, version, clock, random, ...(logTo && { logTo }) },
    current: () => current(),
  });
  const { log, state, cache } = shared;
  const snapshots = createConfigSnapshots(shared, opened);
  const { current } = snapshots;
  const settings = (): Settings => current().dependencies.settings;
  const traffic = createTrafficServer({
    ...{ clock, log, limits: opened.limits, ...listenerOf('traffic', opened, shared) },
    current,
    observer: requestTelemetry(shared),
    tracer: tracing.tracer,
  });
  let draining = false;
  const admin = openAdminPort({
    ...{
      version,
      shared,
      current,
      tls: listenerOf('admin', opened, shared),
      inFlight: traffic.inFlight,
      reload: options.reload ?? null,
    },
    draining: () => draining,
  });

  const close = async (): Promise<void> => {
    traffic.destroyConnections();
    await Promise.all([admin.close(), closeServer(traffic.server)]);
    snapshots.close();
    await shared.transport.close();
    await shared.keyUses.stop();
    await Promise.all([state.stop(), cache.stop(), tracing.stop()]);
    await log.close();
  };

  return {
    log,
    async start() {
      const read = await state.open();
      if (!read.ok) return read;
      // Requests that arrive before this replica has joined wait for it as they wait for a slot.
      const joined = Promise.all([state.start(), cache.follow([...opened.accounts.keys()])]);
      await Promise.race([joined, elapsed(clock, JOIN_MS)]);
      shared.keyUses.start();
      await tracing.start();
      // Nothing waits for them: keys are served without.
      for (const { keys } of current().issuerKeys) keys.start();
      admin.start();
      const onTraffic = await listen(traffic.server, opened.listen.traffic, 'traffic');
      if (!onTraffic.ok) return onTraffic;
      const onAdmin = await listen(admin.server, opened.listen.admin, 'admin');
      if (!onAdmin.ok) return onAdmin;
      const addresses = { traffic: onTraffic.address, admin: onAdmin.address };
      admin.reloads.listening(opened, addresses);
      return { ok: true, ...addresses };
    },
    reload(next, by) {
      const applied = applicable(opened, next);
      const before = settings();
      traffic.renew(applied.settings.listen.traffic.tls);
      admin.renew(applied.settings.listen.admin.tls);
      snapshots.replace(applied.settings);
      void cache.follow([...applied.settings.accounts.keys()]);
      admin.renewTokens();
      return admin.reloads.accepted(next, applied, before, by);
    },
    refuseReload: admin.reloads.refused,
    async drain({ signal, withDelay }) {
      draining = true;
      admin.push();
      traffic.closeConnections();
      log.info({ signal, inFlight: traffic.inFlight() }, 'draining');
      if (withDelay) await elapsed(clock, settings().drain.delayMs);
      const finished = traffic.leave().then(snapshots.idle);
      const timedOut = refuseWaiters(shared, settings().drain.timeoutMs);
      const inTime = await Promise.race([finished.then(() => true), timedOut.then(() => false)]);
      if (inTime) log.info({}, 'drained');
      else log.warn({ inFlight: traffic.inFlight() }, 'drain timed out: what is in flight is cut off');
      await close();
    },
    close,
  };
}

/**
 * Resolves after the timeout. Shortly before it, requests that still wait for a slot or a permit are refused: their callers
 * get a 503 instead of a broken connection.
 */
async function refuseWaiters(
  { clock, admissionQueue, observedQueue, upstreams, bodyMemory }: SharedDependencies,
  timeoutMs: number,
): Promise<void> {
  const lastWordsMs = Math.min(LAST_WORDS_MS, timeoutMs / 2);
  await elapsed(clock, timeoutMs - lastWordsMs);
  admissionQueue.close();
  observedQueue.close();
  upstreams.close();
  bodyMemory.close();
  await elapsed(clock, lastWordsMs);
}

/** Time left of a drain when requests that still wait are refused. */
const LAST_WORDS_MS = 500;
/** How long a start waits for Redis at most. */
const JOIN_MS = 300;

function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return String((JSON.parse(text) as { version: unknown }).version);
}

/** TLS settings of a port, and the counters and logs of its handshakes. */
function listenerOf(port: 'traffic' | 'admin', settings: Settings, { metrics, log }: SharedDependencies): ListenerTls {
  return {
    tls: settings.listen[port].tls,
    // A caller has as long for its handshake as for its headers.
    handshakeTimeoutMs: settings.limits.headersTimeoutMs,
    onHandshake: (outcome, { address, code }) => {
      metrics.tlsHandshake(port, outcome);
      // At debug: any client that reaches the port can cause these without limit.
      if (code !== null || outcome === 'certificate_rejected') {
        log.debug({ port, outcome, code, address }, 'TLS handshake failed');
      }
    },
  };
}
