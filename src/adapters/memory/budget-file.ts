import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import type { Clock } from '../../clock.ts';
import type { Log } from '../../ports.ts';
import { isPeriodLabel } from '../../quota/budget-period.ts';
import { BudgetCalendar, BudgetCounts } from '../../quota/budgets.ts';

export type Opened = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** The counts of budgets of a process without Redis, in a file that survives a restart. */
interface BudgetFile {
  /** An account's counts; each change of them is written. */
  countsOf(account: string): BudgetCounts;
  /** Reads the file, and proves that it can be written. Nothing is written after a failure. */
  open(): Promise<Opened>;
  /** Writes what is not written yet. */
  close(): Promise<void>;
  /** Why the file cannot be written now; null: it can. */
  fault(): { readonly code: string; readonly reason: string } | null;
}

const NAME = 'budgets.json';
const VERSION = 1;
/** A kill loses no more than this and the time of a write: together less than a second. */
const SAVE_AFTER_MS = 400;
const RETRY_MS = 1_000;

export function createBudgetFile(options: {
  readonly directory: string;
  readonly clock: Clock;
  readonly log: Log;
}): BudgetFile {
  const { directory, clock, log } = options;
  const path = join(directory, NAME);
  const calendar = new BudgetCalendar(clock);
  const accounts = new Map<string, BudgetCounts>();
  let isOpen = false;
  let isDirty = false;
  let cancelTimer: (() => void) | null = null;
  let writing: Promise<void> | null = null;
  let fault: { readonly code: string; readonly reason: string } | null = null;

  const countsOf = (account: string): BudgetCounts => {
    const counts = accounts.get(account) ?? new BudgetCounts(changed);
    accounts.set(account, counts);
    return counts;
  };
  function changed(): void {
    isDirty = true;
    if (!isOpen || cancelTimer !== null || writing !== null) return;
    cancelTimer = clock.after(fault === null ? SAVE_AFTER_MS : RETRY_MS, () => void save());
  }
  /** The file is written once at a time; a change meanwhile is in the next write. */
  async function save(): Promise<void> {
    cancelTimer = null;
    writing = write();
    await writing;
    writing = null;
    if (isDirty) changed();
  }
  async function write(): Promise<void> {
    isDirty = false;
    for (const counts of accounts.values()) counts.expire(calendar.now());
    try {
      await writeFileAtomic(path, textOf(accounts), { mode: 0o640 });
      if (fault !== null) log.info({ path }, 'the counts of budgets are written again');
      fault = null;
    } catch (error) {
      isDirty = true;
      const { code = 'failed', message } = error as NodeJS.ErrnoException;
      if (fault === null)
        log.error({ path, code }, 'the counts of budgets cannot be written: a restart would lose them');
      fault = { code, reason: message };
    }
  }

  return {
    countsOf,
    async open() {
      const read = await readCounts(path);
      if (!read.ok) return read;
      for (const [account, label, field, used] of read.counts) {
        countsOf(account).raise(label, field, { charged: used, refunded: 0 });
      }
      await write();
      if (fault !== null) {
        const { reason } = fault;
        return { ok: false, reason: `stateDir: ${reason}: create ${directory}, and let the gateway write to it` };
      }
      isOpen = true;
      if (read.isNew) log.info({ path }, 'there were no counts of budgets: they begin at 0');
      return { ok: true };
    },
    async close() {
      if (!isOpen) return;
      isOpen = false;
      cancelTimer?.();
      await writing;
      if (isDirty) await write();
    },
    fault: () => fault,
  };
}

type ReadCount = readonly [account: string, label: string, field: string, used: number];
type ReadCounts = { readonly ok: true; readonly counts: readonly ReadCount[]; readonly isNew: boolean };

/** A file that is not there is the first start. One that cannot be understood is no reason to begin at 0. */
async function readCounts(path: string): Promise<ReadCounts | { readonly ok: false; readonly reason: string }> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return { ok: true, counts: [], isNew: true };
    return { ok: false, reason: `stateDir: ${message}: let the gateway read and write it` };
  }
  const counts = parseCounts(text);
  if (typeof counts !== 'string') return { ok: true, counts, isNew: false };
  const advice = 'Restore the file, or remove it to begin at 0 on purpose: more than a budget may be sent then';
  return { ok: false, reason: `${path} is damaged: ${counts}. ${advice}` };
}

/** A text is the damage. */
function parseCounts(text: string): readonly ReadCount[] | string {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return text === '' ? 'it is empty' : 'it is not JSON';
  }
  if (!isMap(content) || content['version'] !== VERSION || !isMap(content['accounts'])) {
    return `it has no counts of version ${VERSION}`;
  }
  const counts: ReadCount[] = [];
  for (const [account, periods] of Object.entries(content['accounts'])) {
    if (!isMap(periods)) return `the counts of account ${account} are missing`;
    for (const [label, fields] of Object.entries(periods)) {
      if (!isPeriodLabel(label) || !isMap(fields)) return `"${label}" of account ${account} is no period`;
      for (const [field, used] of Object.entries(fields)) {
        if (!Number.isSafeInteger(used) || Number(used) < 0) return `"${field}" of ${label} is no count`;
        counts.push([account, label, field, Number(used)]);
      }
    }
  }
  return counts;
}

function textOf(accounts: ReadonlyMap<string, BudgetCounts>): string {
  const periods = [...accounts].map(([account, counts]) => {
    const ofAccount = counts.entries().map(([label, fields]) => {
      return [label, Object.fromEntries([...fields.keys()].map((field) => [field, counts.used(label, field)]))];
    });
    return [account, Object.fromEntries(ofAccount)];
  });
  return `${JSON.stringify({ version: VERSION, accounts: Object.fromEntries(periods) })}\n`;
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
