import { inspect } from 'node:util';

const MASK = '[secret]';

/**
 * A value that must not be printed. String conversion, JSON, template literals and `util.inspect` give a mask. Only
 * {@link Secret.reveal} gives the value: a search for `reveal(` finds every use.
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
