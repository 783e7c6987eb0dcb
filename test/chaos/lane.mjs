// A lane is one direction of one connection of a wire. It keeps the bytes in order until they are due, and passes them on by its rule.

/**
 * The disturbance of one direction. An empty rule passes everything on at once.
 * @typedef {object} Rule
 * @property {number} [delayMs] how long each piece is held
 * @property {number} [jitterMs] up to this much more, evenly spread; the order of bytes is kept
 * @property {number} [bytesPerSecond] no faster than this
 * @property {boolean} [swallow] taken from the sender and lost; the connection is reset when the rule ends, as its stream has a hole
 * @property {boolean} [stall] nothing is passed on and, once the buffer is full, nothing more is read; flows on when the rule ends
 * @property {{ afterBytes: number, how: Cut | 'stall' }} [cut] counted for each connection since the rule was set; 0: at once
 * @property {number} [corruptEvery] one bit of each so many bytes is turned over
 */
/** `reset`: RST to both ends. `close`: FIN to both ends, nothing more either way. `end`: FIN to the receiver alone.
 * @typedef {'reset' | 'close' | 'end'} Cut */

/** Held for one direction of one connection. With a delay of 500 ms this lets 2 MiB a second through. */
export const LANE_BYTES = 1024 * 1024;
/** A throttled direction passes on this many pieces a second, so that its receiver sees a drip and not bursts. */
const PIECES_PER_SECOND = 20;

/**
 * @param {import('node:net').Socket} from
 * @param {import('node:net').Socket} to
 * @param {{ rule: Rule, cut: (how: Cut) => void, passed: (bytes: number) => void }} options
 */
export function lane(from, to, options) {
  let { rule } = options;
  /** A piece of null is the end of the stream. @type {{ piece: Buffer | null, due: number }[]} */
  let queue = [];
  let [held, sinceSet, freeAt, lastDue, lost] = [0, 0, 0, 0, 0];
  let [blocked, over] = [false, false];
  /** @type {NodeJS.Timeout | null} */
  let timer = null;

  const dueAfter = () => performance.now() + (rule.delayMs ?? 0) + Math.random() * (rule.jitterMs ?? 0);
  const stalls = () => rule.stall === true || (rule.cut?.how === 'stall' && sinceSet >= rule.cut.afterBytes);
  const take = (/** @type {Buffer | null} */ piece) => {
    if (over) return;
    if (rule.swallow) {
      lost += piece?.length ?? 1;
      return;
    }
    lastDue = Math.max(lastDue, dueAfter());
    queue.push({ piece, due: lastDue });
    held += piece?.length ?? 0;
    if (held >= LANE_BYTES) from.pause();
    pump();
  };

  /** How much of a piece may go now. @param {Buffer} piece */
  const portion = (piece) => {
    const slow = rule.bytesPerSecond === undefined ? piece.length : Math.ceil(rule.bytesPerSecond / PIECES_PER_SECOND);
    const beforeCut = rule.cut === undefined ? piece.length : rule.cut.afterBytes - sinceSet;
    return Math.min(piece.length, slow, Math.max(0, beforeCut));
  };

  /** @param {Buffer} piece */
  const send = (piece) => {
    sinceSet += piece.length;
    held -= piece.length;
    options.passed(piece.length);
    if (rule.bytesPerSecond !== undefined) freeAt = performance.now() + (piece.length / rule.bytesPerSecond) * 1_000;
    if (!to.write(spoiled(piece, sinceSet, rule.corruptEvery))) {
      blocked = true;
      to.once('drain', () => {
        blocked = false;
        pump();
      });
    }
    if (held < LANE_BYTES / 2 && from.isPaused()) from.resume();
  };

  const pump = () => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    while (!over && !blocked && !stalls()) {
      // Also with nothing left to send: a cut after exactly what has passed must not wait for more.
      if (rule.cut !== undefined && rule.cut.how !== 'stall' && sinceSet >= rule.cut.afterBytes)
        return options.cut(rule.cut.how);
      const [head] = queue;
      if (head === undefined) return;
      const wait = Math.max(head.due, freeAt) - performance.now();
      if (wait > 0) {
        timer = setTimeout(pump, wait);
        return;
      }
      if (head.piece === null) {
        queue.shift();
        to.end();
        return;
      }
      const size = portion(head.piece);
      const piece = head.piece.subarray(0, size);
      if (size === head.piece.length) queue.shift();
      else head.piece = head.piece.subarray(size);
      send(piece);
    }
  };

  from.on('data', take);
  from.on('end', () => take(null));
  return {
    /** Once the connection is known to its wire: a rule may cut it at once. */
    start: pump,
    /** @param {Rule} next */
    set(next) {
      const hole = lost > 0 && !next.swallow;
      rule = next;
      [sinceSet, freeAt, lastDue] = [0, 0, 0];
      if (hole) return options.cut('reset');
      for (const each of queue) each.due = lastDue = Math.max(lastDue, dueAfter());
      pump();
    },
    /** FIN to the receiver; what the sender still says goes nowhere. */
    end() {
      over = true;
      queue = [];
      held = 0;
      to.end();
      from.resume();
    },
    stop() {
      over = true;
      queue = [];
      if (timer !== null) clearTimeout(timer);
    },
    held: () => held,
  };
}

/** @param {Buffer} piece @param {number} upTo bytes passed, these included @param {number | undefined} every */
function spoiled(piece, upTo, every) {
  if (every === undefined) return piece;
  const copy = Buffer.from(piece);
  const before = upTo - piece.length;
  for (let at = every - 1 - (before % every); at < copy.length; at += every)
    copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
  return copy;
}
