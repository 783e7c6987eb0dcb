/** The first items of a turn do not wait for a flood of a thousand behind them. */
const MAX_ITEMS = 32;

/**
 * Collects items until the end of the current turn of the event loop, when all that had arrived has been handled, and acts on them
 * in one call, in their order. An item that comes alone waits for the end of its own turn only.
 *
 * @param act receives at least one item, and must not throw
 * @param maxItems a full batch does not wait for the end of the turn
 */
export function batch<T>(act: (items: readonly T[]) => void, maxItems = MAX_ITEMS): (item: T) => void {
  let waiting: T[] = [];
  const run = (): void => {
    // Empty if the batch was full before the turn ended.
    if (waiting.length === 0) return;
    const items = waiting;
    waiting = [];
    act(items);
  };
  return (item) => {
    // setImmediate runs after the callbacks of all that has arrived, and before the loop waits for more.
    if (waiting.length === 0) setImmediate(run);
    waiting.push(item);
    if (waiting.length >= maxItems) run();
  };
}
