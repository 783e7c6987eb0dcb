import { expect, it } from 'vitest';
import { finishedRequest } from '../../test/support/finished-request.ts';
import { createMetrics } from './metrics.ts';

const metrics = () =>
  createMetrics({
    version: '0',
    sources: {
      accounts: () => [],
      issuers: () => [],
      tenantBudgets: () => [],
      cache: () => ({ entries: 0, bytes: 0 }),
      state: () => ({ up: true, fallback: false }),
      certificates: () => [],
      bodyMemory: () => ({ bytes: 0, totalBytes: 0, waiting: 0 }),
      logLinesDropped: () => 0,
      upstreams: () => ({}),
      keyExpiries: () => [],
      keyUses: () => [],
      credentials: () => [],
      revision: () => 'r',
    },
    onUnreadable: () => {},
  });
it('use is counted by tenant, whatever the route, method and status', () => {
  const { requestFinished, requestAvoided, usage } = metrics();
  for (const cache of ['miss', 'hit', 'hit', 'stale', 'collapsed', 'bypass'] as const)
    requestFinished(finishedRequest({ tenant: 'billing', cache }));
  requestAvoided('billing', 'hit');
  requestAvoided('billing', 'replay');
  requestFinished(
    finishedRequest({ tenant: 'billing', method: 'POST', status: 429, code: 'tenant_quota', cache: 'none' }),
  );
  requestFinished(finishedRequest({ tenant: '', route: '', status: 401, code: 'key_unknown', cache: 'none' }));
  expect(Object.fromEntries(usage())).toEqual({
    billing: { requests: 7, refused: 1, wouldReject: 0, saved: 2, reads: 5, hits: 4 },
    none: { requests: 1, refused: 1, wouldReject: 0, saved: 0, reads: 0, hits: 0 },
  });
});

it('a tenant that is no longer configured is gone from it', () => {
  const { requestFinished, keepTenants, usage } = metrics();
  requestFinished(finishedRequest({ tenant: 'billing' }));
  keepTenants(new Set(['reader']));
  expect([...usage().keys()]).toEqual([]);
});
