/** A complete message of Redis' protocol (RESP2 and RESP3), as far as it is looked at. */
export interface Frame {
  /** Its first byte, as a character. */
  readonly type: string;
  /** Text of the first line, without the type: the text of an error. */
  readonly line: string;
  /** The first elements of a collected type, cut off at MAX_WORD bytes; null where an element is no text. */
  readonly words: readonly (string | null)[];
}

const WORDS = 2;
const MAX_WORD = 32;
/** Redis' own limit of a string (`proto-max-bulk-len`). */
const MAX_STRING = 512 * 1024 * 1024;
/** Longer lines are errors with a stack of a script at most. */
const MAX_LINE = 64 * 1024;
const TEXT = new Set(['$', '=', '!']);
const LINES = new Set(['+', '-', ':', ',', '#', '(', '_']);
const LISTS = new Set(['*', '~', '>', '%']);
const CR = 13;
const LINE_END = 2;
/** The length of a null, and of what is a line. */
const NONE = -1;

/**
 * Finds where the messages in a stream of bytes end, without decoding them. Strings are skipped by their length, so a large
 * response costs nothing.
 */
export class FrameScanner {
  readonly #collects: string;
  readonly #onFrame: (frame: Frame) => void;
  /** Elements left of the message, and bytes left of the string. */
  #elements = 0;
  #bytes = 0;
  /** The beginning of a line whose end has not arrived. */
  #rest: Buffer | null = null;
  #type = '';
  #line = '';
  #words: (string | null)[] = [];
  /** The string that is being collected; null: it is not needed. */
  #word: string | null = null;

  /** @param collects the type whose first elements are of interest: `*` for commands, `>` for pushes */
  constructor(collects: string, onFrame: (frame: Frame) => void) {
    this.#collects = collects;
    this.#onFrame = onFrame;
  }

  /** @throws Error if the bytes are not of the protocol; the stream cannot be used any more */
  write(bytes: Buffer): void {
    const chunk = this.#rest === null ? bytes : Buffer.concat([this.#rest, bytes]);
    this.#rest = null;
    let at = 0;
    while (at < chunk.length) {
      if (this.#bytes > 0) {
        at = this.#skip(chunk, at);
        continue;
      }
      const end = chunk.indexOf(CR, at);
      if (end === -1 || end + 1 === chunk.length) {
        if (chunk.length - at > MAX_LINE) throw new Error('a line that does not end');
        this.#rest = Buffer.from(chunk.subarray(at));
        return;
      }
      this.#header(chunk.toString('latin1', at, at + 1), chunk.toString('latin1', at + 1, end));
      at = end + LINE_END;
    }
  }

  /** @returns where the string ends, or the chunk */
  #skip(chunk: Buffer, from: number): number {
    const to = Math.min(chunk.length, from + this.#bytes);
    if (this.#word !== null && this.#word.length < MAX_WORD) {
      // Without the line end behind the string.
      const textEnd = Math.min(to, from + this.#bytes - LINE_END, from + MAX_WORD);
      if (textEnd > from) this.#word += chunk.toString('latin1', from, textEnd);
    }
    this.#bytes -= to - from;
    if (this.#bytes > 0) return to;
    if (this.#word !== null) this.#words.push(this.#word);
    this.#word = null;
    this.#ended();
    return to;
  }

  #header(type: string, line: string): void {
    const isFirst = this.#elements === 0;
    if (isFirst) {
      this.#elements = 1;
      this.#type = type;
      this.#line = line;
      this.#words = [];
    }
    this.#elements -= 1;
    const isWanted = !isFirst && this.#type === this.#collects && this.#words.length < WORDS;
    const length = LINES.has(type) ? NONE : lengthOf(type, line);
    if (TEXT.has(type) && length !== NONE) {
      if (isWanted) this.#word = '';
      this.#bytes = length + LINE_END;
      return;
    }
    if (isWanted) this.#words.push(type === '+' ? line.slice(0, MAX_WORD) : null);
    if (length !== NONE) this.#elements += type === '%' ? 2 * length : length;
    this.#ended();
  }

  #ended(): void {
    if (this.#elements > 0) return;
    this.#onFrame({ type: this.#type, line: this.#line, words: this.#words });
  }
}

/** @throws Error if there is none */
function lengthOf(type: string, line: string): number {
  if (!TEXT.has(type) && !LISTS.has(type)) throw new Error('bytes that are not of the protocol');
  const length = line === '' ? Number.NaN : Number(line);
  if (!Number.isInteger(length) || length < NONE || length > MAX_STRING) throw new Error(`"${type}" without a length`);
  return length;
}
