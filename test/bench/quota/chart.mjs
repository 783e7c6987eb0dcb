/** Lines of the chart in drawing order: the name in the table, and the colour. */
const DRAWN = [
  ['fixed window of 240', '#c2410c'],
  ['token bucket, 240 a minute, burst 240', '#a16207'],
  ['sliding log of 240, no leases', '#7c3aed'],
  ['patchgate, ceiling 235, 3 replicas on Redis', '#047857'],
];
const WIDTH = 860;
const LEFT = 56;
const RIGHT = 20;
const ROW = 150;

/**
 * Arrivals in the 60 s before each second, a row a limiter, against the limit of 240.
 * @param {Record<string, import('./simulate.mjs').Result>} results
 */
export function chart(results) {
  const rows = DRAWN.flatMap(([name, colour], i) => {
    const result = results[/** @type {string} */ (name)];
    return result === undefined
      ? []
      : [row(/** @type {string} */ (name), /** @type {string} */ (colour), result, 60 + i * ROW)];
  });
  const height = 60 + rows.length * ROW + 10;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" role="img" aria-label="Arrivals in any 60 seconds by limiter">
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
<text x="${LEFT}" y="26" font-size="17" font-weight="600" fill="#111827">Requests that reached Patchworks in the 60 s before each second</text>
<text x="${LEFT}" y="45" font-size="12" fill="#4b5563">saturated, jittery latency, one seed; above the red line Patchworks' own window may answer 429</text>
${rows.join('\n')}
</svg>
`;
}

/** @param {string} name @param {string} colour @param {import('./simulate.mjs').Result} result @param {number} top */
function row(name, colour, { series, throttledPerMinute, greatest }, top) {
  const plotTop = top + 26;
  const plotHeight = ROW - 56;
  const most = Math.max(500, greatest);
  const x = (/** @type {number} */ i) => LEFT + (i / Math.max(1, series.length - 1)) * (WIDTH - LEFT - RIGHT);
  const y = (/** @type {number} */ count) => plotTop + plotHeight - (count / most) * plotHeight;
  const points = series.map((count, i) => `${x(i).toFixed(1)},${y(count).toFixed(1)}`).join(' ');
  const minutes = Math.round(series.length / 60) + 1;
  const ticks = Array.from({ length: Math.floor((minutes - 1) / 2) + 1 }, (_, i) => i * 2 + 1).map(
    (minute) =>
      `<text x="${x((minute - 1) * 60).toFixed(1)}" y="${plotTop + plotHeight + 14}" font-size="10" fill="#6b7280" text-anchor="middle">${minute} min</text>`,
  );
  return `<text x="${LEFT}" y="${top + 14}" font-size="13" font-weight="600" fill="${colour}">${name}</text>
<text x="${WIDTH - RIGHT}" y="${top + 14}" font-size="12" fill="#374151" text-anchor="end">at most ${greatest} in 60 s, ${throttledPerMinute.toFixed(1)} upstream 429s a minute</text>
<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(240).toFixed(1)}" y2="${y(240).toFixed(1)}" stroke="#dc2626" stroke-dasharray="5 4"/>
<text x="${LEFT - 6}" y="${(y(240) + 4).toFixed(1)}" font-size="11" fill="#dc2626" text-anchor="end">240</text>
<text x="${LEFT - 6}" y="${plotTop + plotHeight + 4}" font-size="11" fill="#6b7280" text-anchor="end">0</text>
<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${plotTop + plotHeight}" y2="${plotTop + plotHeight}" stroke="#d1d5db"/>
<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="1.6"/>
${ticks.join('\n')}`;
}
