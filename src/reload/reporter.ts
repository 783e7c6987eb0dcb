import type { AddressInfo } from 'node:net';
import type { Actor, AuditEntry, AuditLog } from '../admin/audit.ts';
import type { ReloadOutcome } from '../admin/reload.ts';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';
import type { Log } from '../ports.ts';
import type { Applicable } from './restart-only.ts';
import { bounded, settingsDiff } from './settings-diff.ts';

export interface ReloadReporterOptions {
  readonly clock: Clock;
  readonly log: Log & AuditLog;
  readonly redactor: { apply(text: string): string };
  readonly meter: { configLoaded(outcome: 'ok' | 'refused', atSeconds: number): void };
  /** @param problems undefined: the load was accepted */
  readonly status: { loaded(problems?: readonly string[]): void };
  /** The streams of the admin page. After a reload they begin anew, since their token may have changed. */
  readonly events: { push(): void; restart(): void };
}

/**
 * Reports each load of the configuration: in the log, the metrics, the status and the page, and to the caller. All who asked for a
 * load have an audit line of their own.
 */
export interface ReloadReporter {
  /** The first load, once both ports are bound. */
  listening(settings: Settings, at: { readonly traffic: AddressInfo; readonly admin: AddressInfo }): void;
  /** `applied.settings` are in force: all of `next` but the restart-only options. */
  accepted(next: Settings, applied: Applicable, before: Settings, by: readonly Actor[]): ReloadOutcome;
  /** The settings before it stay in force. */
  refused(problems: readonly string[], by: readonly Actor[]): ReloadOutcome;
  /** Options that keep their old value until a restart. */
  needsRestart(): readonly string[];
}

export function createReloadReporter(options: ReloadReporterOptions): ReloadReporter {
  const { clock, log, redactor, meter, status, events } = options;
  let needsRestart: readonly string[] = [];
  const count = (outcome: 'ok' | 'refused'): void => {
    meter.configLoaded(outcome, clock.now() / 1000);
  };
  count('ok');
  return {
    listening(settings, { traffic, admin }) {
      log.info({ traffic, admin, ...sizeOf(settings) }, 'listening');
      logCertificates(log, null, settings);
    },
    accepted(next, applied, before, by) {
      needsRestart = applied.needsRestart;
      count('ok');
      status.loaded();
      events.restart();
      const changed = bounded(settingsDiff(before, applied.settings));
      const facts = { ...sizeOf(next), changed, needsRestart };
      for (const actor of by) log.audit('info', { ...auditOf(actor, 'ok'), ...facts }, 'configuration reloaded');
      for (const option of needsRestart) log.warn({ option }, 'changed, but takes effect only after a restart');
      logCertificates(log, before, applied.settings);
      return { ok: true, revision: next.revision, changed, needsRestart };
    },
    refused(all, by) {
      count('refused');
      status.loaded(all);
      events.push();
      const problems = bounded(all).map((each) => redactor.apply(each));
      const message = 'the new configuration is refused; the old one stays';
      for (const actor of by) log.audit('error', { ...auditOf(actor, 'refused'), problems }, message);
      return { ok: false, problems };
    },
    needsRestart: () => needsRestart,
  };
}

function auditOf(by: Actor, outcome: AuditEntry['outcome']): AuditEntry {
  return { ...by, action: 'reload', target: 'configuration', outcome };
}

function sizeOf({ revision, tenants, accounts }: Settings) {
  return { revision, tenants: tenants.size, accounts: accounts.size };
}

/** The certificates in use from now on, where they are others than before. */
function logCertificates(log: Log, before: Settings | null, now: Settings): void {
  for (const port of ['traffic', 'admin'] as const) {
    const certificate = now.listen[port].tls?.certificate;
    if (certificate === undefined || deepEqual(certificate, before?.listen[port].tls?.certificate)) continue;
    const { names, notAfterMs, fingerprint } = certificate;
    log.info({ port, names, until: new Date(notAfterMs).toISOString(), fingerprint }, 'certificate in use');
  }
}
