/** Who is early must not wait for all who come in the same turn: under a flood these may be a thousand. */
const MOST = 32;

/**
 * Puts off what is to be done with items to the end of this turn of the event loop, when all that had arrived has been dealt with,
 * and does it for all of them, in the order they were put off. For writes: one that comes alone finds its reader asleep and has to wake
 * it, which costs more than the write; of those that come in a row only the first does (docs/decisions/0024).
 *
 * @param act must not throw: what stands behind it would be left undone
 * @param most as many are not put off any longer
 */
export function together<T>(act: (items: readonly T[]) => void, most = MOST): (item: T) => void {
  let waiting: T[] = [];
  const run = (): void => {
    // As many as may be put off came before the turn was over.
    if (waiting.length === 0) return;
    const items = waiting;
    waiting = [];
    act(items);
  };
  return (item) => {
    // After all callbacks of what has arrived, and before the loop waits for more.
    if (waiting.length === 0) setImmediate(run);
    waiting.push(item);
    if (waiting.length >= most) run();
  };
}

/** The same, each for itself. */
export function inARow<T>(act: (item: T) => void, most = MOST): (item: T) => void {
  return together((items) => {
    for (const item of items) act(item);
  }, most);
}
