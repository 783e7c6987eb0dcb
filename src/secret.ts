import { inspect } from 'node:util';

const MASK = '[secret]';

/**
 * A value that must not be printed. String conversion, JSON, template literals and `util.inspect` all give a mask;
 * only {@link Secret.reveal} gives the value, so that a search for `reveal(` finds every place that handles it.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
