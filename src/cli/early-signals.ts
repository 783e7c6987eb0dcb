const ENDING = ['SIGTERM', 'SIGINT'] as const;

/** Nothing is open yet, so that there is nothing to drain. */
const endNow = (): void => process.exit(0);

/**
 * Handles the signals of a process that has just begun to load its program: by default each would kill it. One that asks for the
 * end gets exit code 0. SIGHUP has no effect: the configuration is read later anyway.
 */
export function handleEarlySignals(): void {
  for (const signal of ENDING) process.on(signal, endNow);
  process.on('SIGHUP', () => {});
}

/** Call it in the turn in which the command handles the end itself. */
export function releaseEarlySignals(): void {
  for (const signal of ENDING) process.off(signal, endNow);
}
