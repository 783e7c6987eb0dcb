import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import type { AuditLog } from '../admin/audit.ts';
import type { Settings } from '../config/settings.ts';
import type { Log } from '../ports.ts';
import { createRedactor } from '../telemetry/redact.ts';
import { createReloadReporter } from './reporter.ts';

const settings = (revision: string): Settings =>
  ({
    ...{ revision, tenants: new Map(), accounts: new Map(), upstreams: new Map() },
    listen: { traffic: { tls: null }, admin: { tls: null, token: revision } },
    ...{ cache: {}, idempotency: {}, limits: {}, drain: {}, reload: {}, tracing: {}, log: {} },
  }) as unknown as Settings;

const BY = [{ actor: 'signal', address: null }];

function reporting() {
  const told: string[] = [];
  const note =
    (level: string) =>
    (fields: unknown, message: string): void =>
      void told.push(`${level} ${message} ${String(JSON.stringify(fields))}`);
  const log: Log & AuditLog = {
    ...{ debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') },
    audit: (level, fields, message) => note(`audit ${level}`)(fields, message),
  };
  const redactor = createRedactor();
  redactor.add('fake-secret');
  const reporter = createReloadReporter({
    ...{ clock: new ManualClock(0), log, redactor },
    meter: { configLoaded: (outcome, at) => void told.push(`counted ${outcome} ${at}`) },
    status: { loaded: (problems) => void told.push(`status ${problems?.join() ?? 'ok'}`) },
    events: { push: () => void told.push('page'), restart: () => void told.push('page anew') },
  });
  return { reporter, told };
}

describe('a load', () => {
  const [before, next] = [settings('one'), settings('two')];

  test('that took effect is counted, shown, logged with what changed and what waits, and answered', () => {
    const { reporter, told } = reporting();
    expect(reporter.needsRestart()).toEqual([]);
    const outcome = reporter.accepted(next, { settings: next, needsRestart: ['redis'] }, before, BY);
    const changed = ['listen.admin.token changed'];
    expect(outcome).toEqual({ ok: true, revision: 'two', changed, needsRestart: ['redis'] });
    expect(reporter.needsRestart()).toEqual(['redis']);
    expect(told).toEqual([
      'counted ok 0',
      'counted ok 0',
      'status ok',
      'page anew',
      'audit info configuration reloaded {"actor":"signal","address":null,"action":"reload","target":"configuration","outcome":"ok","revision":"two","tenants":0,"accounts":0,"changed":["listen.admin.token changed"],"needsRestart":["redis"]}',
      'warn changed, but takes effect only after a restart {"option":"redis"}',
    ]);
  });

  test('that was refused is counted, shown, logged and answered, bounded and without secrets; what waits goes on waiting', () => {
    const { reporter, told } = reporting();
    reporter.accepted(next, { settings: next, needsRestart: ['redis'] }, before, BY);
    told.length = 0;
    const problems = ['line 3: fake-secret is no port', ...Array.from({ length: 99 }, (_, i) => `line ${i + 4}`)];
    const outcome = reporter.refused(problems, BY);
    if (outcome.ok) throw new Error('taken');
    expect(outcome.problems).toHaveLength(31);
    expect(outcome.problems[0]).not.toContain('fake-secret');
    expect(told.slice(0, 1)).toEqual(['counted refused 0']);
    expect(told).toContain('page');
    expect(told.filter((line) => line.startsWith('audit error'))).toHaveLength(1);
    expect(reporter.needsRestart()).toEqual(['redis']);
  });
});
