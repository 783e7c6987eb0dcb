import { showAccounts } from './accounts.js';
import { byId, say } from './dom.js';
import { duration } from './format.js';
import { listen } from './stream.js';
import { showConnection, showFacts, showFindings } from './summary.js';
import { showTenants } from './tenants.js';

/** @typedef {import('../../status/document.ts').Frame} Frame */
/** @typedef {import('./sparkline.js').Sample} Sample */

/** Of this tab alone, and gone with it; a phone that reloads the tab does not ask again. */
const TOKEN = 'patchgate-admin-token';

/** By account, oldest first; bounded by what the gateway says it keeps. @type {Map<string, Sample[]>} */
let samples = new Map();
/** When the newest frame came, by this page's own clock. */
let heardAt = 0;
let isLive = false;

/** @param {Frame['history']} history @param {boolean} isFirst */
function remember({ at, accounts, keepMs }, isFirst) {
  if (isFirst) samples = new Map();
  for (const [id, { slotsInUse, externalUsage, held }] of Object.entries(accounts)) {
    const known = samples.get(id) ?? [];
    at.forEach((time, i) => {
      const own = slotsInUse[i];
      if (own == null) return;
      known.push({ at: time, own, foreign: externalUsage[i] ?? 0, held: held[i] === 1 });
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
  heardAt = performance.now();
  isLive = true;
  remember(history, isFirst);
  byId('gate').hidden = true;
  // Before the charts: they are drawn in the width that they have.
  byId('board').hidden = false;
  const time = { now, keepMs: history.keepMs, everyMs: history.everyMs };
  showFindings(frame);
  // The present ends the curve: a sample may be some seconds old.
  showAccounts(
    Object.entries(status.accounts).map(([id, account]) => {
      const { slotsInUse: own, externalUsage: foreign, cooldownMs } = account;
      const present = { at: now, own, foreign, held: cooldownMs > 0 };
      return [id, { account, samples: [...(samples.get(id) ?? []), present], time }];
    }),
  );
  showTenants(frame);
  showFacts(status, now);
  showConnection('live', status.draining ? 'Live, draining' : 'Live');
  showAge();
}

function showAge() {
  const ageMs = performance.now() - heardAt;
  say(byId('age'), isLive || heardAt === 0 ? '' : `What is shown is ${duration(ageMs)} old.`);
}

/** @param {string} why */
function ask(why) {
  isLive = false;
  heardAt = 0;
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
  listen(token, {
    onFrame: show,
    onLost: (why) => {
      isLive = false;
      showConnection(
        'lost',
        why === 'full' ? 'Too many pages are open. Trying again…' : 'Connection lost. Trying again…',
      );
      showAge();
    },
    onRefused: () =>
      ask(
        token === null
          ? 'This gateway shows itself only to those who have its admin token.'
          : 'This is not the token of this gateway.',
      ),
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
