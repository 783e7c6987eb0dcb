import type { HeaderList, ProxyResponse, Rejection } from '../context.ts';
import { type ProblemCode, problems } from '../problem.ts';

/** `type` of RFC 9457: a name, not an address; docs/failure-modes.md is keyed by the code in it. */
const TYPE_PREFIX = 'urn:patchgate:problem:';

interface Prepared {
  readonly status: number;
  /** JSON up to the detail, and from behind it to the request id: only these two differ between requests. */
  readonly head: string;
  readonly middle: string;
  readonly detail: string;
  readonly challenge: string | null;
}

// Refusals must not cost more than answers, or a refused flood would: all that does not vary is made once.
const prepared = new Map<ProblemCode, Prepared>(
  (Object.keys(problems) as ProblemCode[]).map((code) => {
    const { status, title, detail } = problems[code];
    return [
      code,
      {
        status,
        detail: JSON.stringify(detail),
        head: `{"type":"${TYPE_PREFIX}${code}","title":${JSON.stringify(title)},"status":${status},"detail":`,
        middle: `,"code":"${code}","requestId":`,
        challenge: status === 401 ? challengeOf(code) : null,
      },
    ];
  }),
);

/** The only renderer of refusals: problem documents with `message`, so that Patchworks clients read them too. */
export function renderProblem(refusal: Rejection, requestId: string): ProxyResponse {
  const parts = prepared.get(refusal.code) as Prepared;
  const detail = refusal.detail === undefined ? parts.detail : JSON.stringify(refusal.detail);
  const body = `${parts.head}${detail}${parts.middle}${JSON.stringify(requestId)},"message":${detail}}`;
  const headers: HeaderList = ['Content-Type', 'application/problem+json', 'Cache-Control', 'no-store'];
  if (parts.challenge !== null) headers.push('WWW-Authenticate', parts.challenge);
  if (refusal.retryAfterSeconds !== undefined) headers.push('Retry-After', String(refusal.retryAfterSeconds));
  if (refusal.headers !== undefined) headers.push(...refusal.headers);
  return { kind: 'response', status: parts.status, headers, body: Buffer.from(body) };
}

/** RFC 6750 section 3: no error code where no key was given. */
function challengeOf(code: ProblemCode): string {
  const realm = 'Bearer realm="patchgate"';
  return code === 'key_missing' ? realm : `${realm}, error="invalid_token"`;
}

/** A refusal as bytes, for where there is no request to answer; the connection ends with it. */
export function renderRawProblem(refusal: Rejection): Buffer {
  const problem = renderProblem(refusal, '');
  const lines = [`HTTP/1.1 ${problem.status} Bad Request`];
  for (let i = 0; i < problem.headers.length; i += 2) lines.push(`${problem.headers[i]}: ${problem.headers[i + 1]}`);
  const body = problem.body as Buffer;
  lines.push(`Content-Length: ${body.length}`, 'Connection: close', '', '');
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body]);
}
