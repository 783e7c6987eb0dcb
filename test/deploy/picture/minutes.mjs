// Some minutes of load in which the Overview has something to show: a calm beginning, a tenant that crowds the account,
// others on it, a 429, a spell of failures, and an end like the beginning.
import { pause } from '../rig/children.mjs';
import { askWrongly, falter, keepCalling, repeat, throttle } from '../rig/load.mjs';

/** @typedef {import('../rig/stage.mjs').Stage} Stage */

/** How eagerly tenants call, by the part of the time that is over. @param {number} part @param {string} tenant */
function eagerness(part, tenant) {
  const wave = 0.75 + 0.25 * Math.sin(part * 9 + tenant.length);
  if (tenant === 'reports') return part > 0.3 && part < 0.58 ? 0.6 : 0.06;
  return wave * (tenant === 'storefront' ? 0.9 : 0.45);
}

/** @type {[part: number, happens: (stage: Stage) => unknown][]} */
const EVENTS = [
  [0.2, (stage) => stage.reload(JSON.stringify({ ...stage.settings, log: { level: 'warn' } }))],
  [0.7, ({ simulator }) => simulator.useExternally(45)],
  [0.78, (stage) => throttle(stage, 6)],
  [0.88, falter],
  [0.9, falter],
];

/** @param {Stage} stage @param {number} seconds @param {(line: string) => void} tell */
export async function someMinutes(stage, seconds, tell) {
  const from = performance.now();
  const part = () => (performance.now() - from) / (seconds * 1000);
  const stop = new AbortController();
  const calling = keepCalling(stage, stop.signal, (tenant) => eagerness(part(), tenant));
  const events = [...EVENTS];
  try {
    for (let turn = 0; part() < 1; turn++) {
      for (const [at, happens] of events.filter(([due]) => due <= part())) {
        events.shift();
        tell(`${Math.round(at * 100)} %: ${String(happens).slice(0, 60)}`);
        await happens(stage);
      }
      if (turn % 40 === 3) void askWrongly(stage);
      if (turn % 30 === 7) void repeat(stage, `write-${turn}`);
      await pause(1_000);
    }
  } finally {
    stop.abort();
    await calling;
  }
}
