import { expect, test } from 'vitest';
import { reject } from '../context.ts';
import { withQuota } from './rate-limit.ts';

test.each([
  ['tenant_quota', 'Tenant "a" may send 60 requests a minute, and 20 at once. Nothing of that is left. Retry after'],
  [
    'queue_timeout',
    'No slot became free within 4.9 s. Tenant "a" may send 60 requests a minute, and 20 at once. Retry',
  ],
  ['account_quota', undefined],
] as const)('a rejection as %s names the quota of its tenant where that is the limit', (code, detail) => {
  const view = { limit: 60, remaining: 0, resetMs: 1_000, burst: 20 };
  const rejection = withQuota(reject(code, { retryAfterSeconds: 3 }), 'a', view, 4_949.6);
  expect(rejection).toMatchObject({ code, retryAfterSeconds: 3 });
  if (detail === undefined) expect(rejection.detail).toBeUndefined();
  else expect(rejection.detail).toContain(detail);
});
