import type { AddressInfo } from 'node:net';
import type { ReloadOutcome } from '../admin/app.ts';
import type { Actor, AuditEntry, AuditLog } from '../admin/audit.ts';
import type { Clock } from '../clock.ts';
import { showDuration, showSize } from '../config/option-types.ts';
import { deepEqual, type Settings } from '../config/settings.ts';
import type { Log } from '../ports.ts';
import type { Applicable } from './restart-only.ts';

interface ReloadReporterOptions {
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
export function createReloadReporter({ clock, log, redactor, meter, status, events }: ReloadReporterOptions) {
  let needsRestart: readonly string[] = [];
  const count = (outcome: 'ok' | 'refused'): void => {
    meter.configLoaded(outcome, clock.now() / 1000);
  };
  count('ok');
  return {
    /** The first load, once both ports are bound. */
    listening(settings: Settings, { traffic, admin }: { readonly traffic: AddressInfo; readonly admin: AddressInfo }) {
      log.info({ traffic, admin, ...sizeOf(settings) }, 'listening');
      logCertificates(log, null, settings);
    },
    /** `applied.settings` are in force: all of `next` but the restart-only options. */
    accepted(next: Settings, applied: Applicable, before: Settings, by: readonly Actor[]): ReloadOutcome {
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
    /** The settings before it stay in force. */
    refused(all: readonly string[], by: readonly Actor[]): ReloadOutcome {
      count('refused');
      status.loaded(all);
      events.push();
      const problems = bounded(all).map((each) => redactor.apply(each));
      const message = 'the new configuration is refused; the old one stays';
      for (const actor of by) log.audit('error', { ...auditOf(actor, 'refused'), problems }, message);
      return { ok: false, problems };
    },
    /** Options that keep their old value until a restart. */
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

/** As much as a person reads; further lines are counted. */
const MAX_LINES = 30;
const MAX_LINE_LENGTH = 300;
/** Texts from a small set. Any other text may be a secret or very long, and is not shown. */
const SHOWN_TEXTS: ReadonlySet<string> = new Set([
  'account',
  'enforcement',
  'per',
  'timeZone',
  'role',
  'level',
  'access',
]);

/**
 * The differences between two settings, a line for each option that is another one, with its path as in the files:
 * `tenants.billing.quota.rate 60 → 120`. Lines have numbers, switches and texts from small sets, and no other value.
 */
export function settingsDiff(before: Settings, after: Settings): string[] {
  return changesOf(optionsIn(before), optionsIn(after), []);
}

function optionsIn({ accounts, upstreams, tenants, secrets, revision, ...options }: Settings): object {
  return { accounts, upstreams, tenants, ...options };
}

function changesOf(was: unknown, is: unknown, path: readonly string[]): string[] {
  if (deepEqual(was, is)) return [];
  const [old, now] = [entriesOf(was, path), entriesOf(is, path)];
  if (old === null || now === null) return [`${written(path)} ${changeOf(was, is, path.at(-1) ?? '')}`];
  const lines: string[] = [];
  for (const name of old.keys()) if (!now.has(name)) lines.push(`${written([...path, name])} removed`);
  for (const [name, value] of now) {
    const at = [...path, name];
    if (old.has(name)) lines.push(...changesOf(old.get(name), value, at));
    else lines.push(`${written(at)} added`);
  }
  return lines.length > 0 ? lines : [`${written(path)} in another order`];
}

/** The options within a section, by name; null for a value. Lists of what has an id are by id, and each is one value. */
function entriesOf(value: unknown, path: readonly string[]): ReadonlyMap<string, unknown> | null {
  if (value instanceof Map) return value;
  if (Array.isArray(value)) {
    return value.every(hasId) ? new Map(value.map((each) => [each.id, Object.entries(each)])) : null;
  }
  // The parts of a certificate change together.
  if (!isSection(value) || path.at(-1) === 'tls') return null;
  return new Map(Object.entries(value));
}

function hasId(value: unknown): value is { readonly id: string } {
  return isSection(value) && typeof value['id'] === 'string';
}

function isSection(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** The path as in the files: settings have the unit in the name, and budgets beside the quota that they are part of. */
function written(path: readonly string[]): string {
  return path
    .join('.')
    .replace('.quota.budgets', '.budgets')
    .replace(/(?:Ms|Bytes)$/, '');
}

function changeOf(was: unknown, is: unknown, name: string): string {
  const [old, now] = [shown(was, name), shown(is, name)];
  return old === null || now === null ? 'changed' : `${old} → ${now}`;
}

function shown(value: unknown, name: string): string | null {
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return SHOWN_TEXTS.has(name) ? value : null;
  if (typeof value !== 'number') return null;
  if (name.endsWith('Ms')) return showDuration(value);
  return name.endsWith('Bytes') ? showSize(value) : String(value);
}

/** At most 30 lines of 300 characters, and a last one that counts the others. */
export function bounded(lines: readonly string[]): string[] {
  const shownLines = lines
    .slice(0, MAX_LINES)
    .map((line) => (line.length > MAX_LINE_LENGTH ? `${line.slice(0, MAX_LINE_LENGTH - 1)}…` : line));
  const left = lines.length - shownLines.length;
  return left === 0 ? shownLines : [...shownLines, `and ${left} more`];
}
