// Bars beside raw Node; a line through each bar's end goes from the least to the most of its rounds.
import { ratios } from './statistics.mjs';
import { referenceOf } from './table.mjs';
import { WORK } from './work.mjs';

const WIDTH = 900;
const LEFT = 290;
const RIGHT = 70;
const BAR = 15;
const GAP = 4;
const HEAD = 30;

/** @param {string} id */
const colourOf = (id) =>
  id.startsWith('gateway') ? '#e8743b' : ['raw', 'hono', 'raw-proxy', 'fastify'].includes(id) ? '#7fb069' : '#8d99ae';

const TITLE = 'Requests a second on one core, beside raw Node: more is better';

/**
 * @param {Pick<import('./page.mjs').Results, 'kinds' | 'machine'>} results
 * @returns {string} SVG
 */
export function chart({ kinds, machine }) {
  const groups = WORK.flatMap(({ kind, title }) => {
    const all = kinds[kind];
    const reference = all && referenceOf(all);
    if (all === undefined || reference === undefined) return [];
    const of = (/** @type {import('./rounds.mjs').Measured} */ { rounds }) => rounds.map(({ rate }) => rate);
    return [{ title, reference, bars: all.map((each) => ({ ...each, ratio: ratios(of(each), of(reference)) })) }];
  });
  const most = Math.max(1, ...groups.flatMap(({ bars }) => bars.map(({ ratio }) => ratio.most)));
  const scale = (WIDTH - LEFT - RIGHT) / most;
  let y = 50;
  /** @type {string[]} */
  const parts = [];
  for (const { title, reference, bars } of groups) {
    const height = HEAD + bars.length * (BAR + GAP);
    // Below the bars and their numbers.
    parts.push(line(LEFT + scale, y + HEAD - 6, LEFT + scale, y + height - 1, 'stroke-dasharray="3 3"'));
    parts.push(text(12, y + 18, `${title}, × ${plain(reference.name)}`, 'font-weight="bold"'));
    y += HEAD;
    for (const { id, name, ratio } of bars) {
      const end = LEFT + ratio.median * scale;
      const middle = y + BAR / 2;
      const right = LEFT + ratio.most * scale + 6;
      parts.push(
        text(right, y + 12, ratio.median.toFixed(2), 'paint-order="stroke" stroke="#fff" stroke-width="4"'),
        text(LEFT - 8, y + 12, plain(name), 'text-anchor="end"'),
        `<rect x="${LEFT}" y="${y}" width="${(end - LEFT).toFixed(1)}" height="${BAR}" fill="${colourOf(id)}"/>`,
        line(LEFT + ratio.least * scale, middle, LEFT + ratio.most * scale, middle),
      );
      y += BAR + GAP;
    }
    y += 14;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12" fill="#222" role="img" aria-label="${TITLE}">
<rect width="${WIDTH}" height="${y}" fill="#ffffff"/>
${text(12, 26, TITLE, 'font-size="16" font-weight="bold"')}
${text(12, 44, `${machine.cpu}, Node ${machine.versions['Node']}, ${machine.date}; thin lines: least and most of the rounds`, 'fill="#555"')}
${parts.join('\n')}
</svg>
`;
}

/** Names are Markdown. @param {string} name */
const plain = (name) => name.replace(/[*`]/g, '');

/** @param {number} x @param {number} y @param {string} content @param {string} [more] */
const text = (x, y, content, more = '') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${content.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`)}</text>`;

/** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 @param {string} [more] */
const line = (x1, y1, x2, y2, more = '') =>
  `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="#222" ${more}/>`;
