// A flame picture: who called whom, and how long. One file, no script: a browser shows a frame's name and time at the pointer.

/** @typedef {import('./analyse.mjs').Frame} Frame */

const WIDTH = 1_600;
const ROW = 18;
const TOP = 58;
/** Narrower than this a frame can not be seen. */
const LEAST_PX = 0.6;
const CHARACTER_PX = 6.3;

/** @param {string} group */
export function colourOf(group) {
  if (group.startsWith('patchgate')) return '#e8743b';
  if (group.startsWith('node ')) return '#7fb069';
  if (group.startsWith('native')) return '#8d99ae';
  if (group === 'garbage collector') return '#c1121f';
  return '#5fa8d3';
}

const LEGEND = [
  ['patchgate', 'patchgate '],
  ['node', 'node '],
  ['libraries', 'library'],
  ['native', 'native'],
  ['garbage collector', 'garbage collector'],
];

/**
 * @param {Frame} tree @param {{ title: string, about: string }} text
 * @returns {string} SVG
 */
export function flame(tree, { title, about }) {
  /** @type {string[]} */
  const boxes = [];
  const scale = WIDTH / tree.total;
  const deepest = draw(tree, 0, 0);
  const height = TOP + (deepest + 1) * ROW + 10;

  /** Widest first, from the left; callers above. @param {Frame} frame @param {number} x @param {number} depth @returns {number} deepest row */
  function draw(frame, x, depth) {
    const width = frame.total * scale;
    if (width < LEAST_PX) return depth - 1;
    boxes.push(box(frame, { x, y: TOP + depth * ROW, width, share: frame.total / tree.total }));
    let [left, deepest] = [x, depth];
    for (const child of frame.children) {
      deepest = Math.max(deepest, draw(child, left, depth + 1));
      left += child.total * scale;
    }
    return deepest;
  }

  const legend = LEGEND.map(([name = '', group = ''], i) => {
    const x = WIDTH - 640 + i * 125;
    return `<rect x="${x}" y="14" width="12" height="12" fill="${colourOf(group)}"/><text x="${x + 17}" y="24">${name}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" role="img" aria-label="${escaped(title)}">
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
<text x="8" y="26" font-size="17" font-weight="bold">${escaped(title)}</text>
<text x="8" y="46" fill="#555">${escaped(about)}</text>
${legend.join('\n')}
${boxes.join('\n')}
</svg>
`;
}

/** @param {Frame} frame @param {{ x: number, y: number, width: number, share: number }} at */
function box({ name, group, place }, { x, y, width, share }) {
  const room = Math.floor((width - 6) / CHARACTER_PX);
  const full = name === '(anonymous)' && place !== '' ? place : name;
  const label = full.length > room ? `${full.slice(0, Math.max(0, room - 1))}…` : full;
  const text = room < 3 ? '' : `<text x="${(x + 3).toFixed(1)}" y="${y + 13}">${escaped(label)}</text>`;
  const told = `${name}${place === '' ? '' : ` (${place})`}: ${(share * 100).toFixed(1)} %`;
  const shape = `x="${x.toFixed(1)}" y="${y}" width="${Math.max(0.1, width - 0.4).toFixed(1)}" height="${ROW - 1}"`;
  return `<g><title>${escaped(told)}</title><rect ${shape} rx="1.5" fill="${group === '' ? '#ddd' : colourOf(group)}"/>${text}</g>`;
}

/** @param {string} text */
const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
