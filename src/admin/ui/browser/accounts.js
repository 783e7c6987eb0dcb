import { chart } from './chart.js';
import { byId, element, listIn, look, say, termsIn } from './dom.js';
import { count, duration, percent, roughly } from './format.js';

/** @typedef {import('../../status/document.ts').AccountStatus} AccountStatus */
/** @typedef {import('../../status/document.ts').BudgetStatus} BudgetStatus */
/** @typedef {import('../../status/document.ts').CredentialStatus} CredentialStatus */
/** @typedef {import('./sparkline.js').Sample} Sample */
/** @typedef {{ now: number, keepMs: number, everyMs: number }} Time */
/** @typedef {{ account: AccountStatus, samples: readonly Sample[], time: Time }} AccountItem */

const updateAccounts = listIn(byId('accounts'), accountCard);

/** @param {readonly (readonly [string, AccountItem])[]} items */
export function showAccounts(items) {
  updateAccounts(items);
}

/** @param {string} id @returns {{ node: Element, update: (item: AccountItem) => void }} */
function accountCard(id) {
  const used = element('strong', 'used');
  const of = element('span', 'of');
  const cooldownNote = element('p', 'cooldown-note');
  cooldownNote.hidden = true;
  const picture = chart();
  const terms = element('dl', 'wide');
  const updateTerms = termsIn(terms);
  const budgetsTitle = element('h4', '', 'Budgets');
  const budgets = element('ul', 'budgets');
  const updateBudgets = listIn(budgets, budgetLine);
  const credentials = element('ul', 'credentials');
  const updateCredentials = listIn(credentials, credentialLine);
  const node = element(
    'article',
    'account',
    element('h3', '', id),
    element('p', 'headline', used, of),
    cooldownNote,
    picture.node,
    legend(),
    terms,
    budgetsTitle,
    budgets,
    element('h4', '', 'Credentials'),
    credentials,
  );
  return {
    node,
    update: ({ account, samples, time }) => {
      const { limit, advertisedLimit, ceiling, slotsInUse, externalUsage, waiting, cooldownMs } = account;
      const differs = advertisedLimit !== null && advertisedLimit !== limit;
      const advertised = differs ? `; Patchworks says ${count(advertisedLimit)}` : '';
      say(used, count(slotsInUse));
      say(of, ` of ${count(ceiling)} slots in use (${percent(slotsInUse, ceiling)})`);
      cooldownNote.hidden = cooldownMs <= 0;
      say(cooldownNote, cooldownMs > 0 ? `Cooldown, ${duration(cooldownMs)} left: Patchworks answered 429` : '');
      picture.draw(samples, account, time);
      updateTerms([
        ['Waiting', count(waiting), waiting > 0 ? 'warn' : ''],
        ['External usage', count(externalUsage), externalUsage > 0 ? 'warn' : ''],
        ['Ceiling', `${count(ceiling)} a minute`],
        ['Limit', `${count(limit)} a minute${advertised}`, differs ? 'warn' : ''],
      ]);
      budgetsTitle.hidden = Object.keys(account.budgets).length === 0;
      updateBudgets(Object.entries(account.budgets));
      updateCredentials(account.credentials.map((each) => [each.id, each]));
    },
  };
}

function legend() {
  const entry = (/** @type {string} */ name, /** @type {string} */ text) =>
    element('li', '', element('span', `key ${name}`), text);
  return element(
    'ul',
    'legend',
    entry('own', 'this gateway'),
    entry('external', 'external usage'),
    entry('ceiling', 'ceiling'),
    entry('limit', 'limit'),
    entry('cooldown', 'cooldown'),
  );
}

/** @param {string} id @returns {{ node: Element, update: (item: BudgetStatus) => void }} */
function budgetLine(id) {
  const use = element('span', 'small');
  const projected = element('span', 'projected');
  const used = element('span', 'spent');
  const end = element('span', 'small');
  const track = element('span', 'track', projected, used);
  const node = element('li', 'budget', element('b', '', id), ' ', use, track, end);
  return {
    node,
    update: (budget) => {
      const limit = budget.limit ?? 0;
      /** @type {'bad' | 'warn' | ''} */
      const tone = budget.left === 0 ? 'bad' : budget.endsInMs !== null || isHigh(budget) ? 'warn' : '';
      say(use, `${count(budget.used)} of ${count(limit)} a ${budget.per} used (${percent(budget.used, limit)})`);
      used.style.width = widthOf(budget.used, limit);
      projected.style.width = widthOf(budget.projected, limit);
      look(used, `spent ${{ bad: 'over', warn: 'high', '': '' }[tone]}`);
      say(end, endInWords(budget));
      look(end, `small ${tone}`);
    },
  };
}

/** @param {BudgetStatus} budget */
function isHigh({ used, warnAt }) {
  return warnAt !== null && used >= warnAt;
}

/** @param {number} part @param {number} limit */
function widthOf(part, limit) {
  return limit <= 0 ? '100%' : `${Math.min(100, Math.round((part / limit) * 1000) / 10)}%`;
}

/** @param {BudgetStatus} budget */
function endInWords({ left, endsInMs, resetsInMs, projected, limit }) {
  const reset = `reset in ${roughly(resetsInMs)}`;
  if (left === 0) return `Used up: ${reset}`;
  if (endsInMs !== null) return `At the rate so far used up in ${roughly(endsInMs)}; ${reset}`;
  return `At the rate so far ${percent(projected, limit ?? 0)} used at the end; ${reset}`;
}

/** @param {string} id @returns {{ node: Element, update: (item: CredentialStatus) => void }} */
function credentialLine(id) {
  const mark = element('span', 'mark');
  const state = element('span', 'small');
  const node = element('li', '', mark, element('b', '', id), ' ', state);
  return {
    node,
    update: (credential) => {
      const { inUse, backoffMs } = credential;
      say(mark, inUse ? '●' : backoffMs > 0 ? '✕' : '○');
      look(mark, `mark ${inUse ? 'good' : backoffMs > 0 ? 'bad' : ''}`);
      say(state, credentialInWords(credential));
    },
  };
}

/** @type {Readonly<Record<AccountStatus['credentials'][number]['kind'], string>>} */
const KINDS = { apiKey: 'API key', login: 'login', header: 'header', query: 'query parameter' };

/** @param {CredentialStatus} credential */
function credentialInWords({ kind, inUse, backoffMs, reason, expiresInMs, failing }) {
  const words = [KINDS[kind], inUse ? 'in use' : backoffMs > 0 ? '' : 'spare'];
  if (backoffMs > 0) words.push(`${reason ?? 'backoff'}, tried again in ${duration(backoffMs)}`);
  else if (reason !== null) words.push(`renewal failed: ${reason}`);
  else if (failing) words.push('failed when last used');
  if (expiresInMs !== null) words.push(`token expires in ${duration(expiresInMs)}`);
  else if (kind === 'login' && backoffMs === 0) words.push('no token yet');
  return words.filter((word) => word !== '').join(', ');
}
