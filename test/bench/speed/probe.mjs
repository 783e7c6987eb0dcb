// Checks the responses of a contestant before and after each round, in addition to the counts of the load generator. A contestant
// with a wrong response is not compared.
import { ask } from './ask.mjs';
import { BODY, LARGE_BYTES, questionOf } from './work.mjs';

/**
 * @typedef {import('./ask.mjs').Answer} Answer
 * @typedef {import('./work.mjs').Work} Work
 */

/** Requests on the wire when a round is over, and probes: so many may differ. */
const SLACK = 100;

/**
 * @param {Work} work @param {Answer} answer @param {{ holdsCredential: boolean }} contestant
 * @returns {string[]} what is wrong
 */
export function faultsOf(work, answer, { holdsCredential }) {
  const { status, headers, body } = answer;
  if (status !== 200) return [`status ${status}`];
  const faults = [];
  if (work.large) {
    if (body.length !== LARGE_BYTES) faults.push(`${body.length} bytes in place of ${LARGE_BYTES}`);
  } else if (body.toString() !== BODY) faults.push(`another body, of ${body.length} bytes`);
  const type = work.large ? 'application/octet-stream' : 'application/json';
  if (!headers['content-type']?.startsWith(type)) faults.push(`content-type ${headers['content-type']}`);
  const saw = headers['x-saw'];
  const expected = holdsCredential ? 'account' : 'other';
  if (work.reachesUpstream && saw !== expected) faults.push(`the upstream saw the key of: ${saw}`);
  return faults;
}

/**
 * @param {Work} work @param {import('./wrk.mjs').Load} load
 * @param {{ reached: number, probeBytes: number }} seen requests that reached the upstream; size of the probe's response
 * @returns {string[]} why the round does not count
 */
export function faultsOfRound(work, load, { reached, probeBytes }) {
  const faults = [];
  if (load.broken > 0) faults.push(`${load.broken} connections or reads failed`);
  if (load.above399 > 0) faults.push(`${load.above399} of ${load.requests} answers were 400 or above`);
  const expected = work.reachesUpstream ? load.requests : 0;
  if (Math.abs(reached - expected) > SLACK)
    faults.push(`${reached} requests reached the upstream in place of ${expected}`);
  const each = load.bytes / load.requests;
  // Numbers in headers have more or fewer digits: a few bytes. Another response differs by far more.
  if (Math.abs(each / probeBytes - 1) > 0.1)
    faults.push(`${each.toFixed(0)} bytes a response in place of ${probeBytes}`);
  return faults;
}

/** Bytes of a response on the wire. @param {Answer} answer */
export function sizeOf({ status, rawHeaders, body }) {
  const names = `HTTP/1.1 ${status} OK\r\n\r\n`.length;
  const lines = rawHeaders.reduce((sum, text) => sum + text.length + 2, 0);
  return names + lines + body.length;
}

/**
 * @param {Work} work @param {{ port: number }} at @param {{ id: string, holdsCredential: boolean }} contestant
 */
export async function probe(work, { port }, contestant) {
  const answer = await ask(port, questionOf(work));
  const faults = faultsOf(work, answer, contestant);
  if (faults.length > 0) throw new Error(`${contestant.id} does not do "${work.kind}": ${faults.join('; ')}`);
  return answer;
}
