import type { AddressInfo } from 'node:net';
import type { Clock } from '../clock.ts';
import type { Settings } from '../config/model.ts';
import type { Events } from '../edge/events.ts';
import type { ReloadOutcome } from '../edge/reload.ts';
import type { Log } from '../ports.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Redactor } from '../telemetry/redact.ts';
import { bounded, changesBetween } from './changes.ts';
import type { Fitted } from './fixed.ts';
import { tellCertificates } from './listener-options.ts';
import type { Status } from './status.ts';

export interface LoadsOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly redactor: Redactor;
  readonly meter: Pick<Metrics, 'configLoaded'>;
  readonly status: Pick<Status, 'loaded'>;
  readonly events: Pick<Events, 'push' | 'restart'>;
}

/** Tells whoever should know what came of loading the configuration: log, metrics, status, the page, and who asked for it. */
export interface Loads {
  /** The first one, once both ports are bound. */
  listening(settings: Settings, at: { readonly traffic: AddressInfo; readonly admin: AddressInfo }): void;
  /** `fit` is in force: all of `next` but what waits for a restart. */
  took(next: Settings, fit: Fitted, before: Settings): ReloadOutcome;
  /** The settings before it stay. */
  refused(problems: readonly string[]): ReloadOutcome;
  /** Options that keep their old value until a restart. */
  needsRestart(): readonly string[];
}

export function createLoads(options: LoadsOptions): Loads {
  const { clock, log, redactor, meter, status, events } = options;
  let kept: readonly string[] = [];
  const count = (outcome: 'ok' | 'refused'): void => {
    meter.configLoaded(outcome, clock.now() / 1000);
  };
  count('ok');
  return {
    listening(settings, { traffic, admin }) {
      log.info({ traffic, admin, ...sizeOf(settings) }, 'listening');
      tellCertificates(log, null, settings);
    },
    took(next, fit, before) {
      kept = fit.kept;
      count('ok');
      status.loaded();
      events.restart();
      const changed = bounded(changesBetween(before, fit.settings));
      log.info({ ...sizeOf(next), changed }, 'configuration reloaded');
      for (const option of kept) log.warn({ option }, 'changed, but takes effect only after a restart');
      tellCertificates(log, before, fit.settings);
      return { ok: true, revision: next.revision, changed, needsRestart: kept };
    },
    refused(all) {
      count('refused');
      status.loaded(all);
      events.push();
      const problems = bounded(all).map((each) => redactor.apply(each));
      log.error({ problems }, 'the new configuration is refused; the old one stays');
      return { ok: false, problems };
    },
    needsRestart: () => kept,
  };
}

function sizeOf({ revision, tenants, accounts }: Settings) {
  return { revision, tenants: tenants.size, accounts: accounts.size };
}
