import { showDuration } from '../config/option-types.ts';
import type { AccountSettings, Settings, TenantSettings } from '../config/settings.ts';
import { deepEqual } from '../config/settings.ts';

/** As much as a person reads; further lines are counted. */
const MAX_LINES = 30;
const MAX_LINE_LENGTH = 300;
/** As in `listen.traffic.tls`. */
const DEEPEST = 3;

/**
 * The differences between two settings, a line for each tenant, account, upstream and option. Lines have names and the numbers
 * of quotas. They have no other value, because any other may be a secret or very long.
 */
export function settingsDiff(before: Settings, after: Settings): string[] {
  return [
    ...ofEach('account', before.accounts, after.accounts, accountChanges),
    ...ofEach('upstream', before.upstreams, after.upstreams, () => []),
    ...ofEach('tenant', before.tenants, after.tenants, tenantChanges),
    ...optionChanges(optionsIn(before), optionsIn(after), []),
  ];
}

/** Settings outside the maps. Each has the name of its option, and its unit behind it. */
function optionsIn({ accounts, upstreams, tenants, secrets, revision, ...options }: Settings): object {
  return options;
}

function optionChanges(was: unknown, is: unknown, path: readonly string[]): string[] {
  if (deepEqual(was, is)) return [];
  if (isSection(was) && isSection(is) && path.length < DEEPEST) {
    return Object.keys(is).flatMap((name) => optionChanges(was[name], is[name], [...path, name]));
  }
  return [`${path.join('.').replace(/(?:Ms|Bytes)$/, '')} changed`];
}

function isSection(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** At most 30 lines of 300 characters, and a last one that counts the others. */
export function bounded(lines: readonly string[]): string[] {
  const shown = lines
    .slice(0, MAX_LINES)
    .map((line) => (line.length > MAX_LINE_LENGTH ? `${line.slice(0, MAX_LINE_LENGTH - 1)}…` : line));
  const left = lines.length - shown.length;
  return left === 0 ? shown : [...shown, `and ${left} more`];
}

function ofEach<T>(
  kind: string,
  before: ReadonlyMap<string, T>,
  after: ReadonlyMap<string, T>,
  changes: (was: T, is: T) => string[],
): string[] {
  const lines: string[] = [];
  for (const id of before.keys()) if (!after.has(id)) lines.push(`${kind} ${id} removed`);
  for (const [id, is] of after) {
    const was = before.get(id);
    if (was === undefined) lines.push(`${kind} ${id} added`);
    else if (!deepEqual(was, is)) {
      const what = changes(was, is);
      lines.push(what.length > 0 ? `${kind} ${id}: ${what.join(', ')}` : `${kind} ${id} changed`);
    }
  }
  return lines;
}

function tenantChanges(was: TenantSettings, is: TenantSettings): string[] {
  return [
    ...(was.account === is.account ? [] : [`account ${was.account} → ${is.account}`]),
    ...(was.enforcement === is.enforcement ? [] : [`enforcement ${was.enforcement} → ${is.enforcement}`]),
    ...(was.disabled === is.disabled ? [] : [is.disabled ? 'disabled' : 'enabled']),
    ...listChanges('key', was.keys, is.keys),
    ...(deepEqual(was.allow, is.allow) ? [] : ['allow']),
    ...numberChanges(was.quota, is.quota),
    ...budgetChanges(was.quota, is.quota, String),
    ...(was.maxInFlight === is.maxInFlight ? [] : ['quota.maxInFlight']),
  ];
}

function accountChanges(was: AccountSettings, is: AccountSettings): string[] {
  return [
    ...numberChanges(was.quota, is.quota),
    ...budgetChanges(was.quota, is.quota, ({ limit, per, timeZone }) => `${limit} per ${per} ${timeZone}`),
    ...listChanges('credential', was.credentials, is.credentials),
  ];
}

function listChanges<T extends { readonly id: string }>(kind: string, was: readonly T[], is: readonly T[]): string[] {
  const byId = (list: readonly T[]) => new Map(list.map((each) => [each.id, each]));
  const lines = ofEach(kind, byId(was), byId(is), () => []);
  return lines.length === 0 && !deepEqual(was, is) ? [`order of ${kind}s`] : lines;
}

function numberChanges(was: object, is: object): string[] {
  const old = new Map<string, unknown>(Object.entries(was));
  return Object.entries(is)
    .filter(([name, value]) => name !== 'budgets' && old.get(name) !== value)
    .map(([name, value]) => `quota.${name.replace(/Ms$/, '')} ${shown(name, old.get(name))} → ${shown(name, value)}`);
}

interface WithBudgets<T> {
  readonly budgets?: ReadonlyMap<string, T>;
}

function budgetChanges<T>(was: WithBudgets<T>, is: WithBudgets<T>, show: (budget: T) => string): string[] {
  const [old, now] = [was.budgets ?? new Map<string, T>(), is.budgets ?? new Map<string, T>()];
  const changes = (from: T, to: T) => (show(from) === show(to) ? [] : [`${show(from)} → ${show(to)}`]);
  return ofEach('budget', old, now, changes);
}

function shown(name: string, value: unknown): string {
  return name.endsWith('Ms') ? showDuration(Number(value)) : String(value);
}
