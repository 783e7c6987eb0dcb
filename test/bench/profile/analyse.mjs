// From samples to time: who was running, and who had called.
import { ownerOf } from './groups.mjs';

/**
 * @typedef {import('./groups.mjs').CallFrame} CallFrame
 * @typedef {{ id: number, callFrame: CallFrame, children?: number[] }} ProfileNode
 * @typedef {{ nodes: ProfileNode[], startTime: number, endTime: number, samples: number[], timeDeltas: number[] }} Profile
 *   what `node --cpu-prof` writes: microseconds of the clock that `process.hrtime` reads
 * @typedef {{ name: string, group: string, place: string, self: number, total: number, children: Frame[] }} Frame µs
 * @typedef {{ name: string, group: string, place: string, self: number }} Row
 */

/** Nothing to do, or not yet begun. */
const IDLE = new Set(['(idle)', '(root)']);

/**
 * Self time of each node between two moments.
 * @param {Profile} profile @param {{ from: number, to: number }} window
 * @returns {Map<number, number>} µs by node
 */
export function selfTimes({ startTime, samples, timeDeltas }, { from, to }) {
  /** @type {Map<number, number>} */
  const self = new Map();
  let at = startTime;
  samples.forEach((id, i) => {
    // A delta is the time since the sample before, and this sample is the best that is known of it.
    const delta = timeDeltas[i] ?? 0;
    at += delta;
    if (at >= from && at <= to && delta > 0) self.set(id, (self.get(id) ?? 0) + delta);
  });
  return self;
}

/**
 * The calls as one tree, in which the same function called from the same place is one frame. What was idle is left out.
 * @param {Profile} profile @param {ReadonlyMap<number, number>} self
 * @returns {Frame}
 */
export function callTree({ nodes }, self) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const called = new Set(nodes.flatMap(({ children = [] }) => children));
  const root = nodes.find(({ id }) => !called.has(id));
  if (root === undefined) throw new Error('a profile without a root');
  const all = frameOf([root], byId, self);
  return { ...all, name: 'all', group: '', place: '' };
}

/** @param {readonly ProfileNode[]} same @param {ReadonlyMap<number, ProfileNode>} byId @param {ReadonlyMap<number, number>} self @returns {Frame} */
function frameOf(same, byId, self) {
  const { callFrame } = /** @type {ProfileNode} */ (same[0]);
  /** @type {Map<string, ProfileNode[]>} */
  const below = new Map();
  for (const child of same.flatMap(({ children = [] }) => children)) {
    const node = byId.get(child);
    if (node === undefined || IDLE.has(node.callFrame.functionName)) continue;
    const { functionName, url, lineNumber } = node.callFrame;
    const key = `${functionName} ${url} ${lineNumber}`;
    below.set(key, [...(below.get(key) ?? []), node]);
  }
  const children = [...below.values()]
    .map((nodes) => frameOf(nodes, byId, self))
    .filter(({ total }) => total > 0)
    .sort((a, b) => b.total - a.total);
  const own = IDLE.has(callFrame.functionName) ? 0 : same.reduce((sum, { id }) => sum + (self.get(id) ?? 0), 0);
  return {
    name: shortened(callFrame.functionName || '(anonymous)'),
    ...ownerOf(callFrame),
    self: own,
    total: own + children.reduce((sum, { total }) => sum + total, 0),
    children,
  };
}

/** A regular expression's name is its source, as long as that may be. @param {string} name */
const shortened = (name) => (name.length > 70 ? `${name.slice(0, 69)}…` : name);

/**
 * Self time by function, wherever it was called from; the most first.
 * @param {Frame} tree @returns {Row[]}
 */
export function byFunction(tree) {
  return gathered(tree, ({ name, group, place }) => ({ key: `${name} ${place}`, name, group, place }));
}

/** Self time by whose code it is; the most first. @param {Frame} tree @returns {Row[]} */
export function byGroup(tree) {
  return gathered(tree, ({ group }) => ({ key: group, name: group, group, place: '' }));
}

/**
 * @param {Frame} tree @param {(frame: Frame) => { key: string, name: string, group: string, place: string }} label
 * @returns {Row[]}
 */
function gathered(tree, label) {
  /** @type {Map<string, Row>} */
  const rows = new Map();
  const open = [tree];
  for (let frame = open.pop(); frame !== undefined; frame = open.pop()) {
    open.push(...frame.children);
    if (frame.self === 0) continue;
    const { key, name, group, place } = label(frame);
    const row = rows.get(key) ?? { name, group, place, self: 0 };
    row.self += frame.self;
    rows.set(key, row);
  }
  return [...rows.values()].sort((a, b) => b.self - a.self);
}
