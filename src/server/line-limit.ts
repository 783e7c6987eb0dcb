import type { Clock } from '../clock.ts';

const WINDOW_MS = 60_000;

/** Bounds log lines that callers can cause without limit. Lines beyond the bounds are counted, and their number is logged. */
export interface LineLimit {
  /** @param key what the line is about, such as an address */
  write(key: string, line: () => void): void;
}

export function createLineLimit(options: {
  readonly clock: Clock;
  /** Lines of one key in a minute. */
  readonly perKey: number;
  /** Lines of all keys in a minute; it bounds the keys that are remembered too. */
  readonly total: number;
  /** Called at the end of a minute in which lines were left out. */
  readonly onLeftOut: (lines: number) => void;
}): LineLimit {
  const { clock, perKey, total, onLeftOut } = options;
  const written = new Map<string, number>();
  let lines = 0;
  let leftOut = 0;
  const endWindow = (): void => {
    if (leftOut > 0) onLeftOut(leftOut);
    written.clear();
    lines = 0;
    leftOut = 0;
  };
  return {
    write(key, line) {
      const ofKey = written.get(key) ?? 0;
      if (lines + leftOut === 0) clock.after(WINDOW_MS, endWindow);
      if (lines >= total || ofKey >= perKey) {
        leftOut += 1;
        return;
      }
      written.set(key, ofKey + 1);
      lines += 1;
      line();
    },
  };
}
