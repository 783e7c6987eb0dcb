// The course of a soak as a picture: panels one below the other over the same time, faults as bands.

const WIDTH = 900;
const LEFT = 62;
const RIGHT = 150;
const HEAD = 84;
const PANEL = 132;
const PLOT = 92;
const COLOURS = ['#1d4ed8', '#c2410c', '#047857', '#7c3aed', '#a16207', '#be123c'];

/** @typedef {{ at: number, value: number | null }} Point */
/** @typedef {{ name: string, points: readonly Point[], colour?: string, dashed?: boolean }} Line */
/** @typedef {{ title: string, unit: string, lines: readonly Line[], log?: boolean }} Panel */
/** @typedef {{ name: string, from: number, to: number }} Band */

/** @param {{ title: string, about: string, seconds: number, panels: readonly Panel[], bands: readonly Band[] }} picture */
export function chart({ title, about, seconds, panels, bands }) {
  const height = HEAD + panels.length * PANEL + 10;
  const x = (/** @type {number} */ at) => LEFT + (Math.min(at, seconds) / seconds) * (WIDTH - LEFT - RIGHT);
  const names = [...new Set(bands.map(({ name }) => name))];
  const tint = (/** @type {string} */ name) => BAND_COLOURS[names.indexOf(name) % BAND_COLOURS.length] ?? '#e5e7eb';
  const shades = bands.map(({ name, from, to }) => {
    const wide = Math.max(1.5, x(to) - x(from));
    return `<rect x="${n(x(from))}" y="${HEAD - 6}" width="${n(wide)}" height="${height - HEAD - 22}" fill="${tint(name)}"/>`;
  });
  let at = LEFT;
  const legend = names.map((name) => {
    const item = `<rect x="${at}" y="54" width="11" height="11" fill="${tint(name)}" stroke="#9ca3af" stroke-width="0.5"/><text x="${at + 15}" y="64" font-size="11" fill="#4b5563">${escaped(name)}</text>`;
    at += 30 + name.length * 6.1;
    return item;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, DejaVu Sans, sans-serif" role="img" aria-label="${escaped(title)}">
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
<text x="${LEFT}" y="25" font-size="17" font-weight="600" fill="#111827">${escaped(title)}</text>
<text x="${LEFT}" y="43" font-size="12" fill="#4b5563">${escaped(about)}</text>
${[...legend, ...shades].join('\n')}
${panels.map((panel, i) => drawn(panel, HEAD + i * PANEL, x, seconds)).join('\n')}
</svg>
`;
}

const BAND_COLOURS = ['#fecaca', '#fde68a', '#ddd6fe', '#bfdbfe', '#bbf7d0', '#fed7aa'];
const n = (/** @type {number} */ value) => value.toFixed(1);
const escaped = (/** @type {string} */ text) => text.replace(/[&<>"]/g, (each) => `&#${each.charCodeAt(0)};`);

/** @param {Panel} panel @param {number} top @param {(at: number) => number} x @param {number} seconds */
function drawn({ title, unit, lines, log = false }, top, x, seconds) {
  const values = lines.flatMap(({ points }) => points.flatMap(({ value }) => (value === null ? [] : [value])));
  const ticks = log ? powers(values) : steps(Math.max(0, ...values));
  const [least, most] = [ticks[0] ?? 0, ticks.at(-1) ?? 1];
  const part = (/** @type {number} */ value) =>
    log ? Math.log(Math.max(value, least) / least) / Math.log(most / least) : (value - least) / (most - least);
  const bottom = top + 18 + PLOT;
  const y = (/** @type {number} */ value) => bottom - part(value) * PLOT;
  const grid = ticks.map(
    (tick) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${n(y(tick))}" y2="${n(y(tick))}" stroke="#d1d5db" stroke-width="0.6"/><text x="${LEFT - 6}" y="${n(y(tick) + 3.5)}" font-size="10" fill="#6b7280" text-anchor="end">${Number(tick.toPrecision(3))}</text>`,
  );
  const curves = lines.map((line, i) => {
    const colour = line.colour ?? COLOURS[i % COLOURS.length];
    const dash = line.dashed ? ' stroke-dasharray="4 3"' : '';
    const name = `<text x="${WIDTH - RIGHT + 24}" y="${top + 28 + i * 14}" font-size="11" fill="#374151">${escaped(line.name)}</text><line x1="${WIDTH - RIGHT + 6}" x2="${WIDTH - RIGHT + 20}" y1="${top + 24 + i * 14}" y2="${top + 24 + i * 14}" stroke="${colour}" stroke-width="2"${dash}/>`;
    return `<path d="${path(line.points, x, y)}" fill="none" stroke="${colour}" stroke-width="1.3"${dash}/>${name}`;
  });
  const minutes = times(seconds).map(
    (at) =>
      `<text x="${n(x(at))}" y="${bottom + 12}" font-size="10" fill="#6b7280" text-anchor="middle">${Number((at / 60).toFixed(1))} min</text>`,
  );
  return `<text x="${LEFT}" y="${top + 9}" font-size="12" font-weight="600" fill="#111827">${escaped(title)}<tspan font-weight="400" fill="#6b7280"> ${escaped(unit)}</tspan></text>
${[...grid, ...curves, ...minutes].join('\n')}`;
}

/** Where there is no value there is no line. @param {readonly Point[]} points @param {(at: number) => number} x @param {(value: number) => number} y */
function path(points, x, y) {
  let on = false;
  return points
    .map(({ at, value }) => {
      const command = value === null ? '' : `${on ? 'L' : 'M'}${n(x(at))} ${n(y(value))}`;
      on = value !== null;
      return command;
    })
    .join('');
}

/** Some five round numbers from zero. @param {number} most */
function steps(most) {
  const raw = Math.max(most, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= raw) ?? raw;
  return Array.from({ length: Math.max(1, Math.ceil(most / step)) + 1 }, (_, i) => i * step);
}

/** @param {readonly number[]} values */
function powers(values) {
  const some = values.filter((value) => value > 0);
  if (some.length === 0) return [1, 10];
  const from = Math.floor(Math.log10(Math.min(...some)));
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(...some))));
  return Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
}

/** @param {number} seconds */
function times(seconds) {
  const step = [5, 15, 30, 60, 120, 300, 600, 1800].find((each) => seconds / each <= 8) ?? 3600;
  return Array.from({ length: Math.floor(seconds / step) }, (_, i) => (i + 1) * step);
}
