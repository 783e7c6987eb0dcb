import type { ClientDisconnect } from '../context.ts';

/** The caller's end of the connection, as the stages see it. */
export class Caller implements ClientDisconnect {
  #left = false;
  #listeners: Set<() => void> | null = null;

  get happened(): boolean {
    return this.#left;
  }

  onDisconnect(run: () => void): () => void {
    if (this.#left) {
      run();
      return () => {};
    }
    this.#listeners ??= new Set();
    this.#listeners.add(run);
    return () => this.#listeners?.delete(run);
  }

  /** Called by the edge when the connection closed before the answer was complete. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    const listeners = this.#listeners;
    this.#listeners = null;
    if (listeners) for (const run of listeners) run();
  }
}
