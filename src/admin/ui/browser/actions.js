import { byId, look, say } from './dom.js';
import { plural } from './format.js';

/** @typedef {import('../../status/document.ts').Holder} Holder */

const MAY = { metrics: 'read metrics', read: 'read', operate: 'read, purge, reload' };

const purgeForm = /** @type {HTMLFormElement} */ (byId('purge'));
const accountField = /** @type {HTMLSelectElement} */ (byId('purge-account'));
const pathField = /** @type {HTMLInputElement} */ (byId('purge-path'));
const reloadButton = /** @type {HTMLButtonElement} */ (byId('reload'));
const result = byId('action-result');
const controls = /** @type {HTMLFieldSetElement} */ (byId('controls'));

/** The token of the present connection. @type {string | null} */
let actionToken = null;

/** Shows who reads and what the token may do. @param {Holder} holder @param {string | null} token */
export function showHolder({ id, role }, token) {
  actionToken = token;
  const may = `may ${MAY[role]}`;
  say(byId('holder'), token === null ? `No token is needed: every reader ${may}.` : `Token ${id} ${may}.`);
  controls.disabled = role !== 'operate';
  byId('controls-note').hidden = role === 'operate';
}

/** @param {readonly string[]} accounts */
export function showActionAccounts(accounts) {
  const names = accounts.join();
  if (accountField.dataset['names'] === names) return;
  accountField.dataset['names'] = names;
  accountField.replaceChildren(new Option('all accounts', ''), ...accounts.map((name) => new Option(name, name)));
}

/**
 * @template T of the response
 * @param {string} path @param {Record<string, string>} body @param {(response: T) => string} inWords
 */
async function act(path, body, inWords) {
  look(result, '');
  say(result, 'Working…');
  /** @type {Record<string, string>} */
  const headers = { 'Content-Type': 'application/json' };
  if (actionToken !== null) headers['Authorization'] = `Bearer ${actionToken}`;
  try {
    const response = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body), credentials: 'omit' });
    const read = await response.json();
    look(result, response.ok ? 'good' : 'bad');
    say(result, response.ok ? inWords(read) : [read.detail, ...(read.problems ?? [])].join(' '));
  } catch {
    look(result, 'bad');
    say(result, 'The gateway did not answer.');
  }
}

purgeForm.addEventListener('submit', (event) => {
  event.preventDefault();
  const path = pathField.value.trim();
  const account = accountField.value;
  // The gateway wants to know what to remove; everything is the path of everything.
  const body = { path: path === '' ? '/**' : path, ...(account === '' ? {} : { account }) };
  void act('cache/purge', body, (/** @type {{ accounts: string[], entries: number }} */ { accounts, entries }) => {
    const gone = plural(entries, 'response is', 'responses are');
    return `${gone} gone from the memory of this replica (${accounts.join(', ')}). No replica serves what was purged.`;
  });
});
reloadButton.addEventListener('click', () => {
  void act('reload', {}, (/** @type {{ changed: string[], needsRestart: string[] }} */ { changed, needsRestart }) => {
    const changes = changed.length === 0 ? 'Loaded: nothing has changed.' : `Loaded: ${changed.join('; ')}.`;
    return needsRestart.length === 0 ? changes : `${changes} Needs a restart: ${needsRestart.join(', ')}.`;
  });
});
// A link alone would carry no token.
for (const link of document.querySelectorAll('a.raw')) {
  link.addEventListener('click', (event) => {
    if (actionToken === null) return;
    event.preventDefault();
    void openText(link.getAttribute('href') ?? '');
  });
}

/** @param {string} path */
async function openText(path) {
  const shown = window.open('', '_blank');
  const response = await fetch(path, { headers: { Authorization: `Bearer ${actionToken}` }, credentials: 'omit' });
  const text = await response.text();
  if (shown !== null) shown.location.href = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
}
