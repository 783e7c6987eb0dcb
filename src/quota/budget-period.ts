import type { EpochMs } from '../clock.ts';

export type PeriodKind = 'day' | 'month';

/** A day or a month of the calendar. */
export interface Period {
  /** `2026-11-30` or `2026-11`: what the counts of the period are stored under. */
  readonly label: string;
  readonly startsAt: EpochMs;
  /** The first moment of the next period. */
  readonly endsAt: EpochMs;
}

const DAY_MS = 86_400_000;
/** No period is longer: a day of a change of the offset, a month of 31 days. */
const LONGEST_MS: Readonly<Record<PeriodKind, number>> = { day: 3 * DAY_MS, month: 35 * DAY_MS };
/** Counts are of use for so long after their period: a clock may be set back, or another time zone configured. */
const KEPT_MS: Readonly<Record<PeriodKind, number>> = { day: 3 * DAY_MS, month: 40 * DAY_MS };

/** Whether a name is one of the IANA time zone database, such as `Europe/London`. */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Za-z]/.test(name)) return false;
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/**
 * The calendar of a time zone. A period begins at the first moment of its date: at midnight, or after it where the clocks
 * go forward at midnight. The moment is searched for by the date that the time zone database gives, so that no rule of
 * daylight saving is repeated here.
 */
export class Calendar {
  readonly #format: Intl.DateTimeFormat;
  readonly #latest: Partial<Record<PeriodKind, Period>> = {};

  constructor(timeZone: string) {
    this.#format = new Intl.DateTimeFormat('en-u-ca-gregory-nu-latn', {
      ...{ timeZone, year: 'numeric', month: '2-digit', day: '2-digit' },
    });
  }

  period(kind: PeriodKind, now: EpochMs): Period {
    const latest = this.#latest[kind];
    if (latest !== undefined && latest.startsAt <= now && now < latest.endsAt) return latest;
    const label = this.#label(kind, now);
    const found = {
      label,
      startsAt: firstMoment(now - LONGEST_MS[kind], now, (at) => this.#label(kind, at) >= label),
      endsAt: firstMoment(now, now + LONGEST_MS[kind], (at) => this.#label(kind, at) > label),
    };
    this.#latest[kind] = found;
    return found;
  }

  #label(kind: PeriodKind, at: number): string {
    const parts = Object.fromEntries(this.#format.formatToParts(at).map(({ type, value }) => [type, value]));
    const month = `${parts['year']?.padStart(4, '0')}-${parts['month']}`;
    return kind === 'month' ? month : `${month}-${parts['day']}`;
  }
}

/** The first whole millisecond after `before`, and not after `by`, from which on it `isThere`. */
function firstMoment(before: number, by: number, isThere: (at: number) => boolean): EpochMs {
  let [low, high] = [Math.floor(before), Math.floor(by)];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (isThere(middle)) high = middle;
    else low = middle;
  }
  return high as EpochMs;
}

const LABEL = /^(\d{4})-(\d{2})(?:-(\d{2}))?$/;

export function isPeriodLabel(text: string): boolean {
  return LABEL.test(text);
}

/** Whether the period of this label ended so long ago, in every time zone, that its counts are of no use any more. */
export function isLongOver(label: string, now: EpochMs): boolean {
  const [, year, month, day] = (LABEL.exec(label) ?? []).map(Number);
  if (year === undefined || month === undefined) return true;
  if (day === undefined || Number.isNaN(day)) return Date.UTC(year, month, 1) + KEPT_MS.month < now;
  return Date.UTC(year, month - 1, day + 1) + KEPT_MS.day < now;
}

/** How long the counts of a period have to be kept from now on. */
export function keptForMs(kind: PeriodKind, { endsAt }: Period, now: EpochMs): number {
  return Math.ceil(endsAt - now + KEPT_MS[kind]);
}
