import { describe, expect, it } from 'vitest';
import { headerOf, type Rejection, reject } from '../context.ts';
import { defaultProblemOptions, type ProblemCode, problems } from '../problem.ts';
import { renderProblem } from './problem-response.ts';

const codes = Object.keys(problems) as ProblemCode[];

function rendered(refusal: Rejection, requestId = 'r-1', options = defaultProblemOptions) {
  const answer = renderProblem(refusal, requestId, options);
  return {
    status: answer.status,
    header: (name: string) => headerOf(answer.headers, name),
    body: JSON.parse(String(answer.body)) as Record<string, unknown>,
    text: String(answer.body),
  };
}

describe('every rejection', () => {
  it.each(codes)('%s is a problem document with the status, code and text of the table', (code) => {
    const { status, header, body } = rendered(reject(code));
    const { title, detail } = problems[code];
    expect(header('content-type')).toBe('application/problem+json');
    expect(header('cache-control')).toBe('no-store');
    expect(status).toBe(problems[code].status);
    expect(body).toEqual({
      type: `urn:patchgate:problem:${code}`,
      title,
      status,
      detail,
      code,
      requestId: 'r-1',
      message: detail,
    });
  });

  it.each(codes)('%s challenges the caller if it is a 401, and only then', (code) => {
    const challenge = rendered(reject(code)).header('www-authenticate');
    if (problems[code].status === 401) expect(challenge).toMatch(/^Bearer realm="patchgate"/);
    else expect(challenge).toBeUndefined();
  });
});

describe('a rejection', () => {
  it('calls a key invalid only where one was given', () => {
    expect(rendered(reject('key_missing')).header('www-authenticate')).toBe('Bearer realm="patchgate"');
    for (const code of ['key_unknown', 'key_expired', 'tenant_disabled'] as const)
      expect(rendered(reject(code)).header('www-authenticate')).toBe('Bearer realm="patchgate", error="invalid_token"');
  });

  it('says what more is known in place of the text of the table, to both kinds of readers', () => {
    const { body } = rendered(reject('bad_request', { detail: 'Line 1:\n"quoted" \u2028 \\ end' }));
    expect(body).toMatchObject({
      detail: 'Line 1:\n"quoted" \u2028 \\ end',
      message: 'Line 1:\n"quoted" \u2028 \\ end',
    });
  });

  it('keeps what is for the log only to itself', () => {
    expect(rendered(reject('upstream_unreachable', { internal: 'ECONNREFUSED 10.0.0.7' })).text).not.toMatch(
      /10\.0\.0|ECONN/,
    );
  });

  it('says when to come back, and brings the headers of the stage that refused', () => {
    const { header } = rendered(
      reject('tenant_quota', { retryAfterSeconds: 7, headers: ['RateLimit', '"tenant";r=0;t=7'] }),
    );
    expect(header('retry-after')).toBe('7');
    expect(header('ratelimit')).toBe('"tenant";r=0;t=7');
    expect(rendered(reject('tenant_quota')).header('retry-after')).toBeUndefined();
  });

  it('leads to its entry, and names whom to ask, where the configuration says both', () => {
    const options = { typePrefix: 'https://docs.test/calling.md#', contact: '#integrations $& on chat' };
    const { body } = rendered(reject('key_expired'), 'r-1', options);
    expect(body).toMatchObject({
      type: 'https://docs.test/calling.md#key_expired',
      detail: 'This gateway key has expired. Ask the platform team (#integrations $& on chat) for a new one.',
      contact: '#integrations $& on chat',
    });
    expect(body['message']).toBe(body['detail']);
    expect(rendered(reject('flood'), 'r-1', options).body['detail']).toBe(problems.flood.detail);
  });

  it('is JSON whatever the request id is', () => {
    expect(rendered(reject('internal'), 'a"b\\c\n').body['requestId']).toBe('a"b\\c\n');
  });
});
