import type { Clock } from '../clock.ts';
import type { ClientDisconnect } from '../context.ts';

/** The callers that wait for one in-flight fetch. It counts as disconnected when the last of them has disconnected. */
export class CallerGroup implements ClientDisconnect {
  readonly #onEmpty: () => void;
  readonly #listeners = new Set<() => void>();
  #size = 0;
  #happened = false;

  constructor(onEmpty: () => void) {
    this.#onEmpty = onEmpty;
  }

  get happened(): boolean {
    return this.#happened;
  }

  onDisconnect(run: () => void): () => void {
    if (this.#happened) {
      run();
      return () => {};
    }
    this.#listeners.add(run);
    return () => this.#listeners.delete(run);
  }

  /** Returns a function that removes the caller; a second call has no effect. */
  join(caller: ClientDisconnect): () => void {
    this.#size += 1;
    let joined = true;
    let stop = (): void => {};
    const leave = (): void => {
      if (!joined) return;
      joined = false;
      stop();
      this.#size -= 1;
      if (this.#size === 0) this.#disconnect();
    };
    stop = caller.onDisconnect(leave);
    return leave;
  }

  #disconnect(): void {
    this.#happened = true;
    this.#onEmpty();
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const run of listeners) run();
  }
}

/** Waits for a promise until it settles, the caller disconnects, or `timeoutMs` is over. */
export function waitFor<T>(
  promise: Promise<T>,
  { clock, disconnect, timeoutMs }: { clock: Clock; disconnect: ClientDisconnect; timeoutMs: number },
): Promise<T | 'disconnected' | 'timeout'> {
  return new Promise((resolve, reject) => {
    let stop = (): void => {};
    const end = (result: T | 'disconnected' | 'timeout'): void => {
      cancel();
      stop();
      resolve(result);
    };
    const cancel = clock.after(timeoutMs, () => end('timeout'));
    stop = disconnect.onDisconnect(() => end('disconnected'));
    promise.then(end, reject);
  });
}
