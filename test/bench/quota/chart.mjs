/** Rows of the chart: the name in the table, and the colour. */
const DRAWN = [
  ['fixed window of 240', '#c2410c'],
  ['sliding log of 240, no leases', '#7c3aed'],
  ['leases of 235 without pacing, burst 60', '#a16207'],
  ['patchgate, ceiling 235, 3 replicas on Redis', '#047857'],
];
const WIDTH = 860;
const LEFT = 56;
const RIGHT = 20;
const ROW = 150;
/** Requests in ten seconds if the limit is used evenly. */
const EVEN = 40;

/**
 * Arrivals in each ten seconds, a row a limiter.
 * @param {Record<string, import('./simulate.mjs').Result>} results
 */
export function chart(results) {
  const rows = DRAWN.flatMap(([name = '', colour = ''], i) => {
    const result = results[name];
    return result === undefined ? [] : [row(name, colour, result, 60 + i * ROW)];
  });
  const height = 60 + rows.length * ROW + 10;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" role="img" aria-label="Arrivals in each 10 seconds by limiter">
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
<text x="${LEFT}" y="26" font-size="17" font-weight="600" fill="#111827">Requests that reached Patchworks in each 10 s</text>
<text x="${LEFT}" y="45" font-size="12" fill="#4b5563">saturated, jittery latency, one seed; the red line is the limit of 240 a minute, spread evenly</text>
${rows.join('\n')}
</svg>
`;
}

/** @param {string} name @param {string} colour @param {import('./simulate.mjs').Result} result @param {number} top */
function row(name, colour, { perTenSeconds, longestPause, modest }, top) {
  const plotTop = top + 26;
  const plotHeight = ROW - 56;
  const most = Math.max(120, ...perTenSeconds);
  const width = (WIDTH - LEFT - RIGHT) / perTenSeconds.length;
  const y = (/** @type {number} */ count) => plotTop + plotHeight - (count / most) * plotHeight;
  const bars = perTenSeconds.map(
    (count, i) =>
      `<rect x="${(LEFT + i * width).toFixed(1)}" y="${y(count).toFixed(1)}" width="${Math.max(1, width - 1).toFixed(1)}" height="${((count / most) * plotHeight).toFixed(1)}" fill="${colour}"/>`,
  );
  const minutes = perTenSeconds.length / 6;
  const ticks = Array.from({ length: Math.floor(minutes / 2) + 1 }, (_, i) => i * 2).map(
    (minute) =>
      `<text x="${(LEFT + minute * 6 * width).toFixed(1)}" y="${plotTop + plotHeight + 14}" font-size="10" fill="#6b7280" text-anchor="middle">${minute} min</text>`,
  );
  const about = `longest pause ${(longestPause / 1000).toFixed(1)} s; modest tenant waits ${(modest.wait / 1000).toFixed(1)} s (p95), ${(modest.refused * 100).toFixed(0)} % refused`;
  return `<text x="${LEFT}" y="${top + 14}" font-size="13" font-weight="600" fill="${colour}">${name}</text>
<text x="${WIDTH - RIGHT}" y="${top + 14}" font-size="12" fill="#374151" text-anchor="end">${about}</text>
${bars.join('\n')}
<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(EVEN).toFixed(1)}" y2="${y(EVEN).toFixed(1)}" stroke="#dc2626" stroke-dasharray="5 4"/>
<text x="${LEFT - 6}" y="${(y(EVEN) + 4).toFixed(1)}" font-size="11" fill="#dc2626" text-anchor="end">${EVEN}</text>
<text x="${LEFT - 6}" y="${plotTop + plotHeight + 4}" font-size="11" fill="#6b7280" text-anchor="end">0</text>
<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${plotTop + plotHeight}" y2="${plotTop + plotHeight}" stroke="#d1d5db"/>
${ticks.join('\n')}`;
}
