import { createGuessLimit } from '../adapters/abuse-limits.ts';
import type { AdminToken } from '../admin/access.ts';
import type { ReloadOutcome } from '../admin/app.ts';
import { createAdminApp, createAdminListener } from '../admin/app.ts';
import { type Actor, createAudit } from '../admin/audit.ts';
import { createLiveUpdates } from '../admin/live.ts';
import { composePage } from '../admin/ui/page.ts';
import { redactedSettings, type Settings } from '../config/settings.ts';
import { createReloadReporter } from '../reload/reporter.ts';
import { closeServer, type ListenerTls } from '../server/listener.ts';
import { purgeCache } from './cache-backend.ts';
import type { ConfigSnapshot } from './config-snapshot.ts';
import type { SharedDependencies } from './dependencies.ts';
import { createStatus } from './status.ts';

/** The admin port, not listening yet: status, metrics, page, purge and reload. */
export function openAdminPort(options: {
  readonly version: string;
  readonly shared: SharedDependencies;
  readonly current: () => ConfigSnapshot;
  readonly tls: ListenerTls;
  readonly draining: () => boolean;
  readonly inFlight: () => number;
  /** Null: no `POST /reload`. */
  readonly reload: ((by: Actor) => Promise<ReloadOutcome>) | null;
}) {
  const { current, draining, version } = options;
  const { clock, log, metrics, redactor, addressWarnings } = options.shared;
  const settings = () => current().dependencies.settings;
  const guessLimit = createGuessLimit({
    ...{ clock, limit: settings().limits.failedAuth },
    onBlocked: (address, forMs) => addressWarnings.blocked('admin', address, forMs),
  });
  const isTrustedProxy = (address: string) => current().dependencies.trustedProxies.includes(address);
  const status = createStatus({
    ...{ clock, version, draining, usage: metrics.usage, current, inFlight: options.inFlight },
    adminGuessLimit: guessLimit,
    needsRestart: () => reloads.needsRestart(),
  });
  const events = createLiveUpdates({ frames: status.frames, clock, log });
  const reloads = createReloadReporter({ clock, log, redactor, meter: metrics, status, events });
  const page = composePage();
  const readiness = () => {
    const { state } = current().dependencies;
    const reasons = [
      ...(draining() ? ['draining'] : []),
      ...(state.canAdmit() ? [] : [`redis ${state.fault()?.code ?? 'not joined'}`]),
    ];
    return { ready: reasons.length === 0, reasons };
  };
  const audit = createAudit({ log, clock });
  const createApp = () =>
    createAdminApp({
      ...{ guessLimit, isTrustedProxy },
      tokens: adminTokensOf(settings()),
      readiness,
      metrics: async () => ({ contentType: metrics.contentType, text: await metrics.render() }),
      status: status.document,
      config: () => redactedSettings(settings()),
      purge: (purge) => purgeCache(current().dependencies, purge),
      reload: options.reload,
      ...{ page, events, audit, log },
    });
  let app = createApp();
  const port = createAdminListener({ fetch: (request, env) => app.fetch(request, env) }, options.tls);
  return {
    server: port.server,
    reloads,
    /** Begins to sample for the history. */
    start: status.start,
    /** Sends the present state to every open page now. */
    push: events.push,
    renew: port.renew,
    /** Asks for the tokens that are in force now. */
    renewTokens(): void {
      app = createApp();
    },
    async close(): Promise<void> {
      status.stop();
      events.close();
      port.destroyConnections();
      await closeServer(port.server);
    },
  };
}

function adminTokensOf({ listen: { admin } }: Settings): readonly AdminToken[] {
  const { token, tokens } = admin;
  return token === null ? tokens : [{ id: 'admin', token, role: 'operate' }, ...tokens];
}
