import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';

/** No response may be stored, and none but the page itself may run as a page. */
export const ADMIN_HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
};

/** Rejections of the admin port. The table of problem.ts is for tenants, and a missing admin token must not read like a missing tenant key. */
const problems = {
  unauthorized: [401, 'Send an admin token as `Authorization: Bearer <token>`.'],
  forbidden: [403, 'The role of this admin token does not allow this. See `role` under listen.admin.tokens.'],
  address_blocked: [429, 'Too many wrong tokens came from this address. Wait for as long as Retry-After says.'],
  bad_request: [400, 'The request cannot be read.'],
  cross_site: [403, 'A page of another site may not do this.'],
  too_many_listeners: [503, 'Too many pages are open on this replica. Close one, or read /status.'],
  unsupported_media_type: [415, 'Send JSON, with `Content-Type: application/json`.'],
  config_refused: [422, 'The new configuration is refused; the old one stays in force. See `problems`.'],
  not_found: [404, 'The admin port has no such path.'],
  method_not_allowed: [405, 'See the header Allow for the methods of this path.'],
  internal: [500, 'The gateway failed on this request. See the log line with this request id.'],
} as const;

export interface AdminProblemOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly requestId?: string;
  /** In place of the text in the table. */
  readonly detail?: string | undefined;
  /** Fields besides those of every problem. */
  readonly more?: Readonly<Record<string, unknown>>;
}

export function adminProblem(code: keyof typeof problems, options: AdminProblemOptions = {}): Response {
  const [status, text] = problems[code];
  const { headers, requestId = randomUUID(), detail = text, more } = options;
  // The title is that of the HTTP status, as RFC 9457 requires for `about:blank`.
  const title = STATUS_CODES[status];
  const body = { type: 'about:blank', title, status, detail, code, requestId, message: detail, ...more };
  return respondJson(body, status, {
    'Content-Type': 'application/problem+json',
    'X-Request-Id': requestId,
    ...headers,
  });
}

export function respondJson(body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return respondText(`${JSON.stringify(body)}\n`, { 'Content-Type': 'application/json', ...headers }, status);
}

export function respondText(body: string, headers: Readonly<Record<string, string>>, status = 200): Response {
  return new Response(body, { status, headers: { ...ADMIN_HEADERS, ...headers } });
}
