import type { HeaderList, ProxyResponse, Rejection } from '../context.ts';
import { defaultProblemOptions, type ProblemCode, type ProblemOptions, problems } from '../problem.ts';

/** In the texts of problem.ts and of the middleware. */
const TO_ASK = 'the platform team';

/** Renders every rejection as a problem document, with `message` for clients of Patchworks, which read that field. */
export function renderProblem(
  rejection: Rejection,
  requestId: string,
  { typePrefix, contact }: ProblemOptions,
): ProxyResponse {
  const { code, retryAfterSeconds } = rejection;
  const { status, title } = problems[code];
  const text = rejection.detail ?? problems[code].detail;
  const detail = contact === null ? text : text.replace(TO_ASK, () => `${TO_ASK} (${contact})`);
  const document = {
    ...{ type: typePrefix + code, title, status, detail, code, requestId, message: detail },
    ...(contact !== null && { contact }),
  };
  const headers: HeaderList = ['Content-Type', 'application/problem+json', 'Cache-Control', 'no-store'];
  if (status === 401) headers.push('WWW-Authenticate', challengeOf(code));
  if (retryAfterSeconds !== undefined) headers.push('Retry-After', String(retryAfterSeconds));
  if (rejection.headers !== undefined) headers.push(...rejection.headers);
  return { kind: 'response', status, headers, body: Buffer.from(JSON.stringify(document)) };
}

/** RFC 6750 section 3: no error code where no key was given. */
function challengeOf(code: ProblemCode): string {
  const realm = 'Bearer realm="patchgate"';
  return code === 'key_missing' ? realm : `${realm}, error="invalid_token"`;
}

/** A rejection as the bytes of a response, for sockets without a request. The connection ends with it. */
export function renderRawProblem(rejection: Rejection, options = defaultProblemOptions): Buffer {
  const problem = renderProblem(rejection, '', options);
  const lines = [`HTTP/1.1 ${problem.status} Bad Request`];
  for (let i = 0; i < problem.headers.length; i += 2) lines.push(`${problem.headers[i]}: ${problem.headers[i + 1]}`);
  const body = problem.body as Buffer;
  lines.push(`Content-Length: ${body.length}`, 'Connection: close', '', '');
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body]);
}
