// Throughput: as many requests as 32 connections carry, each sending its next when the last is answered.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const CONNECTIONS = 32;

/** @typedef {{ requests: number, seconds: number, bytes: number, above399: number, broken: number }} Load */

const SUMMARY = `
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("\\nSUMMARY %d %d %d %d %d\\n", summary.requests, summary.duration, summary.bytes, e.status,
    e.connect + e.read + e.write + e.timeout))
end
`;

/**
 * @param {import('./rig.mjs').Rig} rig
 * @param {{ port: number, question: import('./ask.mjs').Question, seconds: number }} options
 * @returns {Promise<Load>}
 */
export async function wrk(rig, { port, question, seconds }) {
  const { method, path, headers, body } = question;
  const script = join(rig.scratch, 'wrk.lua');
  // No function of ours runs per request: the request is made once and sent again and again.
  const request = [`wrk.method = "${method}"`, ...(body === null ? [] : [`wrk.body = [==[${body}]==]`])].join('\n');
  writeFileSync(script, `${request}\n${SUMMARY}`);
  const fields = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const args = ['-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '--timeout', '10s', '-s', script, ...fields];
  const ended = await rig.run('load', 'wrk', [...args, `http://127.0.0.1:${port}${path}`]);
  return parseSummary(ended.stdout + ended.stderr);
}

/** @param {string} said @returns {Load} */
export function parseSummary(said) {
  const found = /^SUMMARY (\d+) (\d+) (\d+) (\d+) (\d+)$/m.exec(said)?.slice(1).map(Number);
  const [requests = 0, micros = 0, bytes = 0, above399 = 0, broken = 0] = found ?? [];
  if (requests === 0 || micros === 0) throw new Error(`wrk measured nothing: ${said}`);
  return { requests, seconds: micros / 1e6, bytes, above399, broken };
}
