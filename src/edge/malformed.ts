import type { Rejection } from '../context.ts';
import { renderProblem } from './problem-json.ts';

/** A refusal as bytes, for where there is no request to answer; the connection ends with it. */
export function renderMalformed(refusal: Rejection): Buffer {
  const problem = renderProblem(refusal, '');
  const lines = [`HTTP/1.1 ${problem.status} Bad Request`];
  for (let i = 0; i < problem.headers.length; i += 2) lines.push(`${problem.headers[i]}: ${problem.headers[i + 1]}`);
  const body = problem.body as Buffer;
  lines.push(`Content-Length: ${body.length}`, 'Connection: close', '', '');
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body]);
}
