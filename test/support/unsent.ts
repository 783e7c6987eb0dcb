interface Failed extends Error {
  readonly syscall?: unknown;
  /** Whether an answer had come on the connection before. */
  readonly reused?: boolean;
}

/** Nothing was sent. */
const neverConnected = (error: Failed): boolean => error.syscall === 'connect';

/**
 * Whether a request that failed while a gateway left was lost. Between the last look of a process at who has come and the end of
 * its listening, a moment of some 100 µs, the kernel may let somebody in, and then cuts them off. So a new connection may break;
 * but then nobody listens any more, and whoever comes next can not connect. One on which an answer has come never breaks.
 *
 * @param again another request, on another connection
 */
export async function wasLost(error: Failed, again: () => Promise<unknown>): Promise<boolean> {
  if (neverConnected(error)) return false;
  if (error.reused === true) return true;
  return again().then(
    () => true,
    (next: Failed) => !neverConnected(next),
  );
}
