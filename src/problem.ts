/** Settings of all rejections of the traffic port: `problems` of the configuration. */
export interface ProblemOptions {
  /** `type` of RFC 9457, without the code. */
  readonly typePrefix: string;
  /** Whom callers ask; null: rejections do not name it. */
  readonly contact: string | null;
}

export const defaultProblemOptions: ProblemOptions = { typePrefix: 'urn:patchgate:problem:', contact: null };

/**
 * Every rejection of the gateway: code, status and public text.
 * Codes and statuses are a contract with callers; docs/calling.md says what a caller does about each, and
 * docs/failure-modes.md what an operator does.
 */
export const problems = {
  key_missing: {
    status: 401,
    title: 'No gateway key',
    detail: 'Send your gateway key as `Authorization: Bearer <key>`, `Authorization: <key>` or `X-API-Key: <key>`.',
  },
  key_unknown: {
    status: 401,
    title: 'Unknown gateway key',
    detail:
      'The gateway does not know this key. Send the key of your tenant, not one of Patchworks, and check the base URL.',
  },
  key_expired: {
    status: 401,
    title: 'Expired gateway key',
    detail: 'This gateway key has expired. Ask the platform team for a new one.',
  },
  token_invalid: {
    status: 401,
    title: 'Invalid token',
    detail: 'The gateway does not accept this token. Its log has the reason: ask the platform team.',
  },
  token_expired: {
    status: 401,
    title: 'Expired token',
    detail: 'This token has expired. Get a new one from its issuer.',
  },
  identity_unknown: {
    status: 401,
    title: 'Unknown identity',
    detail: 'No tenant of the gateway has the identity in this token or certificate. Ask the platform team.',
  },
  tenant_disabled: { status: 401, title: 'Tenant disabled', detail: 'This tenant is disabled. Ask the platform team.' },
  route_forbidden: {
    status: 403,
    title: 'Not allowed for this tenant or key',
    detail:
      'Your tenant, or the key that you use, is not allowed to call this method and path. Ask the platform team for permission.',
  },
  address_forbidden: {
    status: 403,
    title: 'Not allowed from this address',
    detail: 'This gateway key may not be used from your address. Ask the platform team, and quote the request id.',
  },
  route_unknown: {
    status: 404,
    title: 'No such route',
    detail: 'The gateway has no route for this method and path. Check both.',
  },
  path_not_canonical: {
    status: 400,
    title: 'Path is not canonical',
    detail:
      'The path contains dot segments, encoded slashes, backslashes, control characters or a malformed escape. Send it in canonical form.',
  },
  key_conflict: {
    status: 400,
    title: 'Two different gateway keys',
    detail: 'The request has two different gateway keys. Send one.',
  },
  bad_request: {
    status: 400,
    title: 'Bad request',
    detail: 'The request is not valid HTTP, or its target is not of the form `/path`.',
  },
  body_too_large: {
    status: 413,
    title: 'Body too large',
    detail: 'The request body is larger than the gateway accepts. Send a smaller body.',
  },
  upload_timeout: {
    status: 408,
    title: 'Upload too slow',
    detail: 'The request body did not arrive in time. Nothing was carried out: send it again.',
  },
  idempotency_conflict: {
    status: 409,
    title: 'Request still in flight',
    detail: 'A request with this Idempotency-Key is still in flight. Retry with the same key after the time given.',
  },
  idempotency_mismatch: {
    status: 422,
    title: 'Idempotency-Key reused',
    detail: 'This Idempotency-Key was used with a different request. Use a new key.',
  },
  tenant_quota: {
    status: 429,
    title: 'Tenant quota used up',
    detail: 'Your tenant has used its share of the account. Retry after the time given.',
  },
  account_quota: {
    status: 429,
    title: 'Account quota used up',
    detail: 'The account of all tenants has no request left at the moment. Retry after the time given.',
  },
  budget_exhausted: {
    status: 429,
    title: 'Budget used up',
    detail: 'Nothing is left of a budget of your tenant or of the account. Retry after the time given.',
  },
  queue_timeout: {
    status: 429,
    title: 'No slot in time',
    detail: 'No slot became free within the allowed wait. Retry after the time given.',
  },
  upstream_cooldown: {
    status: 429,
    title: 'Patchworks throttles the account',
    detail: 'Patchworks accepts no requests of the account at the moment. Retry after the time given.',
  },
  address_blocked: {
    status: 429,
    title: 'Address blocked',
    detail: 'Too many failed authentications came from this address. Retry after the time given.',
  },
  flood: {
    status: 429,
    title: 'Too many requests to the gateway',
    detail: 'Your tenant sends more requests than the gateway accepts from one tenant. Retry after the time given.',
  },
  only_if_cached: {
    status: 504,
    title: 'Not in cache',
    detail: 'The request has only-if-cached, and the cache has no response for it.',
  },
  upstream_unreachable: {
    status: 502,
    title: 'Patchworks unreachable',
    detail: 'The gateway could not connect to Patchworks. Retry later.',
  },
  upstream_protocol: {
    status: 502,
    title: 'Invalid response from Patchworks',
    detail:
      'Patchworks closed the connection early or sent a response that is not HTTP. It may have executed the request.',
  },
  upstream_credentials_rejected: {
    status: 502,
    title: 'Credentials rejected by Patchworks',
    detail: 'Patchworks rejected all credentials of the gateway. Your own key is valid; the platform team has to act.',
  },
  upstream_timeout: {
    status: 504,
    title: 'Patchworks took too long',
    detail: 'Patchworks did not respond in time. It may have executed the request.',
  },
  state_unavailable: {
    status: 503,
    title: 'Shared state unavailable',
    detail: 'The gateway cannot reach the state that its replicas share. Retry after the time given.',
  },
  overloaded: {
    status: 503,
    title: 'Gateway overloaded',
    detail:
      'The gateway has no memory left for the body of this request. Nothing was sent. Retry after the time given.',
  },
  breaker_open: {
    status: 503,
    title: 'Patchworks is failing',
    detail: 'Patchworks has been failing, and the gateway sends nothing until it recovers. Retry after the time given.',
  },
  client_closed: {
    status: 499,
    title: 'Client closed the connection',
    detail: 'The caller closed its connection before there was a response.',
  },
  draining: { status: 503, title: 'Shutting down', detail: 'This replica is shutting down. Send the request again.' },
  internal: {
    status: 500,
    title: 'Internal error',
    detail: 'The gateway failed on this request. Quote the request id when you report it.',
  },
} as const satisfies Record<string, { status: number; title: string; detail: string }>;

export type ProblemCode = keyof typeof problems;

/** Codes for requests that were not sent, or that the upstream refused. */
const NOT_CARRIED_OUT: ReadonlySet<ProblemCode> = new Set([
  'tenant_quota',
  'account_quota',
  'budget_exhausted',
  'queue_timeout',
  'upstream_cooldown',
  'state_unavailable',
  'breaker_open',
  'draining',
  'key_unknown',
  'tenant_disabled',
  'upstream_unreachable',
  'upstream_credentials_rejected',
  'body_too_large',
  'upload_timeout',
  'overloaded',
  'bad_request',
]);

/** Whether a write that was rejected with this code after so many attempts may have been carried out. */
export function mayBeCarriedOut(code: ProblemCode, attempts: number): boolean {
  // This code does not show whether the request was sent, but the number of attempts does.
  if (code === 'client_closed') return attempts > 0;
  return !NOT_CARRIED_OUT.has(code);
}
