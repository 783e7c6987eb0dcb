import { showDuration, showSize } from '../config/option-types.ts';
import type { Settings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';

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
