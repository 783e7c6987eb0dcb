import type { Clock } from '../clock.ts';
import { createLineLimit } from '../server/line-limit.ts';

/** The one who acts: the id of a token, `anonymous` without one, `unknown` with a wrong one, `file`, or `signal`. */
export interface Actor {
  readonly actor: string;
  /** Peer of the connection; null for what came by no connection. */
  readonly address: string | null;
}

export interface AuditEntry extends Actor {
  readonly action: 'purge' | 'reload' | 'read';
  readonly target: string;
  readonly outcome: 'ok' | 'refused' | 'failed';
}

/** Writes audit lines, whatever the level of the log. */
export interface AuditLog {
  audit(level: 'info' | 'warn' | 'error', fields: Record<string, unknown>, message: string): void;
}

/** The audit lines of the admin port. Those of a reload are written where its outcome is reported. */
export interface Audit {
  /** Always written. */
  purged(entry: AuditEntry, more: Record<string, unknown>): void;
  /** Anyone who reaches the port can cause these: they are bounded. */
  refused(actor: Actor, request: { readonly method: string; readonly path: string }, code: string): void;
}

const REFUSED_PER_ADDRESS = 10;
const REFUSED_IN_ALL = 100;
const MAX_TARGET_CHARS = 200;
const PURGE_MESSAGES = { ok: 'cache purged', refused: 'cache purge refused', failed: 'cache purge failed' } as const;

export function createAudit({ log, clock }: { readonly log: AuditLog; readonly clock: Clock }): Audit {
  const writeLimited = createLineLimit({
    ...{ clock, perKey: REFUSED_PER_ADDRESS, total: REFUSED_IN_ALL },
    onLeftOut: (calls) => log.audit('warn', { outcome: 'refused', calls }, 'more admin calls refused'),
  });
  return {
    purged(entry, more) {
      const fields = { ...entry, target: printable(entry.target), ...more };
      log.audit(entry.outcome === 'ok' ? 'info' : 'warn', fields, PURGE_MESSAGES[entry.outcome]);
    },
    refused(actor, { method, path }, code) {
      const target = printable(`${method} ${path}`);
      const entry = { ...actor, action: actionOf(path), target, outcome: 'refused', code } satisfies Refusal;
      writeLimited(actor.address ?? '', () => log.audit('warn', entry, 'admin call refused'));
    },
  };
}

/** The caller chooses the text. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_TARGET_CHARS);
}

type Refusal = AuditEntry & { readonly code: string };

function actionOf(path: string): AuditEntry['action'] {
  if (path === '/cache/purge') return 'purge';
  return path === '/reload' ? 'reload' : 'read';
}
