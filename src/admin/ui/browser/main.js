import { showAccounts } from './accounts.js';
import { showActionAccounts, showHolder } from './actions.js';
import { byId, say } from './dom.js';
import { duration } from './format.js';
import { subscribe } from './stream.js';
import { showAlerts, showConnection, showName, showSummary } from './summary.js';
import { showTenants } from './tenants.js';

/** @typedef {import('../../status/document.ts').Frame} Frame */
/** @typedef {import('./sparkline.js').Sample} Sample */

/** In the session storage of this tab, so that a phone that reloads the tab does not ask again. */
const TOKEN = 'patchgate-admin-token';

/** By account, oldest first; bounded by `keepMs` of the gateway. @type {Map<string, Sample[]>} */
let samples = new Map();
/** When the newest frame arrived, by this page's own clock. */
let receivedAt = 0;
let isLive = false;

/** @param {Frame['history']} history @param {boolean} isFirst */
function remember({ at, accounts, keepMs }, isFirst) {
  if (isFirst) samples = new Map();
  for (const [id, { slotsInUse, externalUsage, cooldown }] of Object.entries(accounts)) {
    const known = samples.get(id) ?? [];
    at.forEach((time, i) => {
      const own = slotsInUse[i];
      if (own == null) return;
      known.push({ at: time, own, external: externalUsage[i] ?? 0, cooldown: cooldown[i] === 1 });
    });
    const newest = known.at(-1)?.at ?? 0;
    samples.set(
      id,
      known.filter(({ at: time }) => time > newest - keepMs),
    );
  }
}

/** @param {string} data @param {boolean} isFirst */
function show(data, isFirst) {
  /** @type {Frame} */
  const frame = JSON.parse(data);
  const { status, history } = frame;
  const now = Date.parse(status.now);
  receivedAt = performance.now();
  isLive = true;
  remember(history, isFirst);
  byId('gate').hidden = true;
  // Before the charts, which are drawn in the width of their element.
  byId('board').hidden = false;
  const time = { now, keepMs: history.keepMs, everyMs: history.everyMs };
  showName(status);
  showAlerts(frame);
  // The current state is the last point: a sample may be some seconds old.
  showAccounts(
    Object.entries(status.accounts).map(([id, account]) => {
      const { slotsInUse: own, externalUsage: external, cooldownMs } = account;
      const present = { at: now, own, external, cooldown: cooldownMs > 0 };
      return [id, { account, samples: [...(samples.get(id) ?? []), present], time }];
    }),
  );
  showTenants(frame);
  showActionAccounts(Object.keys(status.accounts));
  showSummary(status, now);
  showConnection('live', status.draining ? 'Live, draining' : 'Live');
  showAge();
}

function showAge() {
  const ageMs = performance.now() - receivedAt;
  say(byId('age'), isLive || receivedAt === 0 ? '' : `These numbers are ${duration(ageMs)} old.`);
}

/** @param {string} why */
function askForToken(why) {
  isLive = false;
  receivedAt = 0;
  showAge();
  sessionStorage.removeItem(TOKEN);
  showConnection('refused', 'Token needed');
  say(byId('gate-why'), why);
  byId('board').hidden = true;
  byId('gate').hidden = false;
  byId('token').focus();
}

/** @param {string | null} token */
function connect(token) {
  subscribe(token, {
    onFrame: show,
    onHolder: (holder) => showHolder(holder, token),
    onLost: (why) => {
      isLive = false;
      showConnection(
        'lost',
        why === 'full' ? 'Too many pages are open. Trying again…' : 'Connection lost. Trying again…',
      );
      showAge();
    },
    onRefused: (why) => {
      const wrong = 'This is not the token of this gateway.';
      const small = 'This token may not read the status: it has the role metrics.';
      askForToken(token === null ? 'This page needs an admin token.' : why === 'forbidden' ? small : wrong);
    },
  });
}

byId('gate').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId('token'));
  const token = field.value.trim();
  field.value = '';
  if (token === '') return;
  sessionStorage.setItem(TOKEN, token);
  showConnection('connecting', 'Connecting…');
  connect(token);
});
setInterval(showAge, 1_000);
connect(sessionStorage.getItem(TOKEN));
