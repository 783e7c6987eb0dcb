/** Numbers and durations as text. */

const COUNT = new Intl.NumberFormat('en');

/** @param {number} value */
export function count(value) {
  return COUNT.format(value);
}

/** @param {number} part @param {number} whole */
export function percent(part, whole) {
  if (whole <= 0) return '–';
  const share = (part / whole) * 100;
  // 0 % and 100 % only for exactly these.
  if (share > 99 && share < 100) return '> 99 %';
  if (share > 0 && share < 1) return '< 1 %';
  return `${Math.round(share)} %`;
}

/** Two units at most. @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return pair(minutes, 'min', seconds % 60, 's');
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return pair(hours, 'h', minutes % 60, 'min');
  return pair(Math.floor(hours / 24), 'd', hours % 24, 'h');
}

/** An approximate duration in one unit. @param {number} ms */
export function roughly(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** @param {number} large @param {string} unit @param {number} small @param {string} smaller */
function pair(large, unit, small, smaller) {
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smaller}`;
}

/** @param {number} value */
export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let size = value;
  let at = 0;
  while (size >= 1024 && at < units.length - 1) {
    size /= 1024;
    at += 1;
  }
  return `${at === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[at]}`;
}

/** @param {number} number @param {string} one @param {string} many */
export function plural(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
