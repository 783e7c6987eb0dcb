const MONTHS = 'Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec';
const IMF_FIXDATE = new RegExp(`^[A-Z][a-z]{2}, \\d{2} (?:${MONTHS}) \\d{4} \\d{2}:\\d{2}:\\d{2} GMT$`);
const RFC_850 = new RegExp(`^[A-Z][a-z]+day, \\d{2}-(?:${MONTHS})-\\d{2} \\d{2}:\\d{2}:\\d{2} GMT$`);
const ASCTIME = new RegExp(`^[A-Z][a-z]{2} (?:${MONTHS}) [ \\d]\\d \\d{2}:\\d{2}:\\d{2} \\d{4}$`);

/**
 * Milliseconds since the epoch, or null. Reads the three formats of RFC 9110 section 5.6.7, and nothing else: Date.parse also finds
 * a date in `Expires: 0` and in local times, but a malformed date makes a response stale (RFC 9111 section 5.3).
 */
export function parseHttpDate(text: string): number | null {
  let parsed = Number.NaN;
  if (IMF_FIXDATE.test(text)) parsed = Date.parse(text);
  else if (RFC_850.test(text)) parsed = Date.parse(withCentury(text));
  else if (ASCTIME.test(text)) parsed = Date.parse(`${text} GMT`);
  return Number.isNaN(parsed) ? null : parsed;
}

/** A year of two digits is at most 50 years ahead, else the latest in the past that ends so (RFC 9110 section 5.6.7). */
function withCentury(text: string): string {
  const latest = new Date().getUTCFullYear() + 50;
  return text.replace(/-(\d{2}) /, (_, digits: string) => {
    const year = latest - (latest % 100) + Number(digits);
    return ` ${year > latest ? year - 100 : year} `;
  });
}
