import { byId, element, listIn, look, say } from './dom.js';
import { count, plural, roughly } from './format.js';

/** @typedef {import('../../status/document.ts').Frame} Frame */
/**
 * A line of the table. `share` is relative to the requests of the busiest tenant, 0 to 1.
 * @typedef {{ note: string, requests: number, refused: number, wouldReject: number, waiting: number | null, saved: number, left: string, share: number }} Line
 */

/** A row is read on a phone; GET /status has all keys. */
const MAX_KEYS = 3;

/** On a phone the rows are grids, which some browsers do not present to a screen reader as rows. */
const ROLES = {
  table: 'table',
  thead: 'rowgroup',
  tbody: 'rowgroup',
  tr: 'row',
  'thead th': 'columnheader',
  'tbody th': 'rowheader',
  td: 'cell',
};

for (const [selector, role] of Object.entries(ROLES))
  for (const each of document.querySelectorAll(selector)) each.setAttribute('role', role);

const updateTenants = listIn(byId('tenants'), tenantRow);
const updateOthers = listIn(byId('others'), tenantRow);

/** @param {Frame} frame */
export function showTenants({ status, tenants }) {
  const { busiest, rest, count: all } = tenants;
  const most = Math.max(1, ...busiest.map(({ recent }) => recent.requests));
  const severalAccounts = Object.keys(status.accounts).length > 1;
  const span = roughly(status.recentSeconds * 1000);
  say(byId('tenants-note'), `${plural(all, 'tenant', 'tenants')}; counts of the last ${span}.`);
  updateTenants(
    busiest.map(({ id, accounts, disabled, enforcement, recent, waiting, quota, budgets, keys }) => {
      const observed = enforcement === 'observe' ? 'observed' : '';
      const usedUp = Object.entries(budgets).flatMap(([name, { left }]) => (left === 0 ? `${name} used up` : []));
      const rate = `${count(quota.limit)} a minute, ${count(quota.burst)} at once`;
      const states = [severalAccounts ? accounts.join(' + ') : '', disabled ? 'disabled' : '', observed, rate];
      const notes = [...states, ...usedUp, usesOf(keys)].filter((note) => note !== '');
      const left = `${count(quota.remaining)}/${count(quota.burst)}`;
      return [id, { note: notes.join(', '), ...recent, waiting, left, share: recent.requests / most }];
    }),
  );
  /** @type {[string, Line][]} */
  const others = [];
  const hidden = all - busiest.length;
  if (hidden > 0)
    others.push([
      `${plural(hidden, 'other tenant', 'other tenants')}`,
      { note: 'all in /status', ...rest, left: '', share: 0 },
    ]);
  const { unattributed } = status;
  if (unattributed.requests > 0) {
    others.push(['No tenant', { note: 'unknown keys or paths', ...unattributed, waiting: null, left: '', share: 0 }]);
  }
  updateOthers(others);
}

/** The key that was used last is first. @param {Frame['tenants']['busiest'][number]['keys']} keys */
function usesOf(keys) {
  const used = [...keys].sort((a, b) => (b.lastUsed ?? '').localeCompare(a.lastUsed ?? ''));
  const texts = used.slice(0, MAX_KEYS).map(({ kind, id, expiresInMs, lastUsed, unusedForMs }) => {
    const state = expiresInMs === 0 ? 'expired' : lastUsed === null ? 'not used' : ago(unusedForMs);
    return `${kind} ${id} ${state}`;
  });
  const more = used.length - texts.length;
  return texts.length === 0 ? 'no key' : `${texts.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Uses are known to the minute, and other replicas report theirs once a minute. @param {number} ms */
function ago(ms) {
  return ms < 3 * 60_000 ? 'in use' : `used ${roughly(ms)} ago`;
}

/** @param {string} id @returns {{ node: Element, update: (line: Line) => void }} */
function tenantRow(id) {
  const note = element('span', 'small');
  const bar = element('span', 'bar');
  const cells = Array.from({ length: 6 }, () => element('td', 'number'));
  const head = element('th', '', element('span', 'name', id), note, bar);
  head.scope = 'row';
  const node = element('tr', '', head, ...cells);
  node.setAttribute('role', ROLES.tr);
  head.setAttribute('role', ROLES['tbody th']);
  for (const cell of cells) cell.setAttribute('role', ROLES.td);
  return {
    node,
    update: (line) => {
      say(note, line.note);
      bar.style.width = `${Math.round(line.share * 100)}%`;
      const { requests, refused, wouldReject, waiting, saved, left } = line;
      const texts = [
        ...[count(requests), count(refused), count(wouldReject)],
        ...[waiting === null ? '' : count(waiting), count(saved), left],
      ];
      for (const [at, cell] of cells.entries()) say(cell, texts[at] ?? '');
      const [, refusals, predicted, queue] = cells;
      if (refusals !== undefined) look(refusals, refused > 0 ? 'number warn' : 'number');
      if (predicted !== undefined) look(predicted, wouldReject > 0 ? 'number warn' : 'number');
      if (queue !== undefined) look(queue, (waiting ?? 0) > 0 ? 'number warn' : 'number');
    },
  };
}
