import { count } from './format.js';
import { sparklinesOf } from './sparkline.js';

/** @typedef {import('./sparkline.js').Sample} Sample */

const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 120;
/** Space for the labels of the axes. */
const LEFT = 30;
const BOTTOM = 18;

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | string)} children
 */
function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * Slots in use over the last minutes, with ceiling and limit.
 *
 * @returns {{ node: SVGElement, draw: (samples: readonly Sample[], account: { limit: number, ceiling: number }, time: { now: number, keepMs: number, everyMs: number }) => void }}
 */
export function chart() {
  const node = /** @type {SVGElement} */ (shape('svg', { class: 'chart', role: 'img', height: HEIGHT + BOTTOM + 6 }));
  let again = () => {};
  // A phone that is turned has another width at once, and the next frame comes in two seconds.
  new ResizeObserver(() => again()).observe(node);
  return {
    node,
    draw(samples, account, time) {
      again = () => this.draw(samples, account, time);
      const { limit, ceiling } = account;
      const { now, keepMs, everyMs } = time;
      // Drawn in the real width, because stretched text is hard to read.
      const full = node.clientWidth || 320;
      const width = full - LEFT - 6;
      const top = Math.max(limit, 1) * 1.06;
      const { own, external, cooldown, y } = sparklinesOf(samples, {
        ...{ width, height: HEIGHT, from: now - keepMs, to: now, top },
        gapMs: everyMs * 2.5,
      });
      const across = (/** @type {string} */ name, /** @type {number} */ value) =>
        shape('line', { class: name, x1: 0, x2: width, y1: y(value), y2: y(value) });
      const minutes = keepMs / 60_000;
      const ticks = [0, 1, 2, 3].map((third) => {
        const at = (third / 3) * width;
        const text = third === 3 ? 'now' : `−${Math.round(minutes * (1 - third / 3))} min`;
        const anchor = ['start', 'middle', 'middle', 'end'][third] ?? 'middle';
        return shape('text', { x: at, y: HEIGHT + 14, 'text-anchor': anchor }, text);
      });
      const scale = [0, Math.round(limit / 2), limit].map((value) =>
        shape('text', { x: -5, y: y(value) + 4, 'text-anchor': 'end' }, count(value)),
      );
      node.setAttribute('viewBox', `0 0 ${full} ${HEIGHT + BOTTOM + 6}`);
      node.setAttribute('aria-label', inWords(samples, ceiling, minutes));
      node.replaceChildren(
        shape(
          'g',
          { transform: `translate(${LEFT} 6)` },
          ...cooldown.map((each) =>
            shape('rect', { class: 'cooldown', x: each.x, y: 0, width: each.width, height: HEIGHT }),
          ),
          across('base', limit / 2),
          shape('path', { class: 'own', d: own }),
          shape('path', { class: 'external', d: external }),
          across('limit', limit),
          across('ceiling', ceiling),
          across('base', 0),
          ...ticks,
          ...scale,
        ),
      );
    },
  };
}

/** @param {readonly Sample[]} samples @param {number} ceiling @param {number} minutes */
function inWords(samples, ceiling, minutes) {
  const most = Math.max(0, ...samples.map(({ own }) => own));
  const now = samples.at(-1)?.own ?? 0;
  return `Slots in use over the last ${minutes} minutes: now ${now}, at most ${most}, of a ceiling of ${ceiling}`;
}
