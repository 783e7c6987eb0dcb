import { AccessRecord, type FinishedRequest } from '../../src/context.ts';

type Facts = Omit<FinishedRequest, 'context'> & Omit<FinishedRequest['context'], 'record'> & AccessRecord;

/** A read of a tenant that the upstream answered, with other facts where they are given. */
export function finishedRequest(other: Partial<Facts> = {}): FinishedRequest {
  const facts = {
    ...new AccessRecord(),
    ...{ requestId: 'r-1', method: 'GET', target: '/api/v1/flows?page=1', trace: null },
    ...{ baseUrl: 'http://gateway', clientAddress: '10.0.0.1', route: '/api/v1/**' },
    ...{ tenant: 'billing', key: '2026-11', cache: 'miss' as const, attempts: 1 },
    ...{ upstreamMs: 12.345, upstreamStatus: 200, status: 200, code: null, bytes: 512 },
    ...{ aborted: false, durationMs: 13.987, internal: null },
    ...other,
  };
  return { ...facts, context: { ...facts, record: facts } };
}
