import { alertsOf } from './alerts.js';
import { byId, element, listIn, look, say, termsIn } from './dom.js';
import { bytes, count, duration, percent, roughly } from './format.js';

/** @typedef {import('../../status/document.ts').Frame} Frame */
/** @typedef {import('../../status/document.ts').StatusSummary} StatusSummary */

const updateCache = termsIn(byId('cache'));
const updateState = termsIn(byId('state'));
const updateConfig = termsIn(byId('config'));
const updateGateway = termsIn(byId('gateway'));
const updateAlerts = listIn(byId('alerts'), alertLine);
/** @type {(items: readonly (readonly [string, string])[]) => void} */
const updateProblems = listIn(byId('problems'), lineOf);

/** @param {string} text */
function lineOf(text) {
  const node = element('li', '', text);
  return { node, update: (/** @type {string} */ tone) => look(node, tone) };
}

/** @param {string} text @returns {{ node: Element, update: (item: import('./alerts.js').Alert & { base: string | null }) => void }} */
function alertLine(text) {
  const detail = element('span', 'detail');
  // A screen reader says the text once, and not the numbers every two seconds.
  detail.setAttribute('aria-live', 'off');
  const link = element('a', 'runbook', 'Runbook');
  link.target = '_blank';
  link.rel = 'noreferrer';
  const node = element('li', '', text, detail);
  return {
    node,
    update: ({ level, detail: numbers, runbook, base }) => {
      look(node, level);
      say(detail, numbers === '' ? '' : ` ${numbers}`);
      if (base === null || runbook === '') return;
      link.href = `${base}/docs/operations.md#${runbook}`;
      if (link.parentNode === null) node.append(' ', link);
    },
  };
}

/** @param {Frame} frame */
export function showAlerts(frame) {
  const base = frame.status.runbookBaseUrl;
  updateAlerts(alertsOf(frame).map((alert) => [alert.text, { ...alert, base }]));
}

/** @param {StatusSummary} status @param {number} now */
export function showSummary(status, now) {
  const { cache, state, lastLoad } = status;
  const inTouch = Object.values(cache.inTouch).every((each) => each);
  updateCache([
    ['Hit share', cache.recent.reads === 0 ? 'no reads yet' : percent(cache.recent.hits, cache.recent.reads)],
    ['Reads', `${count(cache.recent.reads)} in ${roughly(status.recentSeconds * 1000)}`],
    ['Entries in memory', count(cache.entries)],
    ['Size', cache.maxBytes === 0 ? 'switched off' : `${bytes(cache.bytes)} of ${bytes(cache.maxBytes)}`],
    ['Invalidations', inTouch ? 'arrive' : 'do not arrive', inTouch ? '' : 'warn'],
  ]);
  // An account that was just added may not have joined yet.
  const replicas = Math.max(0, ...Object.values(status.accounts).map((each) => each.replicas));
  updateState([
    ['Kept in', state.kind === 'redis' ? 'Redis' : 'this process alone'],
    ['Answers', state.up ? 'yes' : 'no', state.up ? 'good' : 'bad'],
    ['Ceiling', state.fallback ? 'this replica’s share' : 'shared', state.fallback ? 'bad' : ''],
    ['Replicas', replicas === 0 ? 'not known yet' : count(replicas)],
  ]);
  const loaded = `${lastLoad.outcome === 'ok' ? '' : 'refused '}${roughly(now - Date.parse(lastLoad.at))} ago`;
  updateConfig([
    ['Revision', status.revision],
    ['Last load', loaded, lastLoad.outcome === 'ok' ? 'good' : 'bad'],
    ['Needs a restart', status.needsRestart.join(', ') || 'nothing', status.needsRestart.length > 0 ? 'warn' : ''],
  ]);
  updateProblems(lastLoad.problems.map((problem) => [problem, '']));
  updateGateway([
    ['Deployment', status.deployment === '' ? 'not named' : status.deployment],
    ['Replica', status.replica],
    ['Version', status.version],
    ['Up for', duration(status.upSeconds * 1000)],
    ['In flight', count(status.inFlight)],
    ['Draining', status.draining ? 'yes' : 'no', status.draining ? 'warn' : ''],
  ]);
}

/** Several replicas, each in a tab: the title tells them apart. @param {StatusSummary} status */
export function showName({ deployment, replica }) {
  const name = deployment === '' ? replica : `${deployment} · ${replica}`;
  say(byId('name'), name);
  document.title = `patchgate · ${name}`;
}

/** @param {'live' | 'lost' | 'connecting' | 'refused'} state @param {string} text */
export function showConnection(state, text) {
  const node = byId('connection');
  say(node, text);
  look(node, state);
  look(document.body, state);
}
