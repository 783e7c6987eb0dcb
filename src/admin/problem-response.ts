import { randomUUID } from 'node:crypto';

/** No response may be stored, and none but the page itself may run as a page. */
export const ADMIN_HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
};

/**
 * Rejections of the admin port. The table of problem.ts is for tenants, and a missing admin token must not read like a missing tenant
 * key. Titles are those of the HTTP status, as RFC 9457 requires for `about:blank`.
 */
const problems = {
  unauthorized: {
    status: 401,
    title: 'Unauthorized',
    detail: 'Send an admin token as `Authorization: Bearer <token>`.',
  },
  forbidden: {
    status: 403,
    title: 'Forbidden',
    detail: 'The role of this admin token does not allow this. See `role` under listen.admin.tokens.',
  },
  address_blocked: {
    status: 429,
    title: 'Too Many Requests',
    detail: 'Too many wrong tokens came from this address. Wait for as long as Retry-After says.',
  },
  bad_request: { status: 400, title: 'Bad Request', detail: 'The request cannot be read.' },
  cross_site: {
    status: 403,
    title: 'Forbidden',
    detail: 'A page of another site may not do this.',
  },
  too_many_listeners: {
    status: 503,
    title: 'Service Unavailable',
    detail: 'Too many pages are open on this replica. Close one, or read /status.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'Unsupported Media Type',
    detail: 'Send JSON, with `Content-Type: application/json`.',
  },
  config_refused: {
    status: 422,
    title: 'Unprocessable Content',
    detail: 'The new configuration is refused; the old one stays in force. See `problems`.',
  },
  not_found: { status: 404, title: 'Not Found', detail: 'The admin port has no such path.' },
  method_not_allowed: {
    status: 405,
    title: 'Method Not Allowed',
    detail: 'See the header Allow for the methods of this path.',
  },
  internal: {
    status: 500,
    title: 'Internal Server Error',
    detail: 'The gateway failed on this request. See the log line with this request id.',
  },
} as const;

export function adminProblem(
  code: keyof typeof problems,
  headers: Readonly<Record<string, string>> = {},
  requestId: string = randomUUID(),
  said?: string,
  more: Readonly<Record<string, unknown>> = {},
): Response {
  const { status, title } = problems[code];
  const detail = said ?? problems[code].detail;
  const body = { type: 'about:blank', title, status, detail, code, requestId, message: detail, ...more };
  return new Response(`${JSON.stringify(body)}\n`, {
    status,
    headers: { ...ADMIN_HEADERS, 'Content-Type': 'application/problem+json', 'X-Request-Id': requestId, ...headers },
  });
}
