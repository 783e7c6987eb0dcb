import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { FAKE_PRIMARY_KEY } from '../../src/simulator/options.ts';
import { arrived, BILLING_KEY, codeOf, configuration, eventually, run } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

interface Page {
  readonly data: { readonly id: number; readonly callback_url: string }[];
  readonly links: { readonly next: string | null };
}

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;

describe('a request with a valid key', () => {
  test.each([
    ['Authorization: Bearer', { Authorization: `Bearer ${BILLING_KEY}` }],
    ['Authorization, bare', { Authorization: BILLING_KEY }],
    ['X-API-Key', { 'X-API-Key': BILLING_KEY, Authorization: '' }],
  ])('reaches the upstream with the credential of the account and without its own: %s', async (_name, headers) => {
    await using gateway = await run();
    const response = await gateway.fetch('/api/v1/flow-runs', { headers });
    expect(response.status).toBe(200);
    const [arrival] = gateway.simulator.arrivals();
    expect(arrived(arrival!.headers, 'authorization')).toBe(FAKE_PRIMARY_KEY);
    expect(JSON.stringify(arrival)).not.toContain(BILLING_KEY);
    expect(JSON.stringify([...response.headers])).not.toContain(FAKE_PRIMARY_KEY);
  });

  test('is passed on with method, path, query and body unchanged', async () => {
    await using gateway = await run();
    const body = JSON.stringify({ name: 'pool ☃' });
    const response = await gateway.fetch('/api/v1/data-pool/?x=%5B1%5D,2&y=a+b%20c', {
      method: 'POST',
      body,
      headers: { 'Content-Type': 'application/json; charset=utf-8' },
    });
    expect(response.status).toBe(201);
    const [arrival] = gateway.simulator.arrivals();
    expect(arrival).toMatchObject({
      method: 'POST',
      target: '/api/v1/data-pool/?x=%5B1%5D,2&y=a+b%20c',
      bodySha256: createHash('sha256').update(body).digest('hex'),
    });
    expect(arrived(arrival!.headers, 'content-type')).toBe('application/json; charset=utf-8');
  });

  test('gets Accept and Content-Type only where they are missing', async () => {
    await using gateway = await run();
    await sendRaw(gateway.port, rawRequest('GET /api/v1/flow-runs', [AUTH]));
    await sendRaw(
      gateway.port,
      rawRequest('GET /api/v1/flow-runs', [AUTH, 'Accept: text/csv', 'Content-Type: text/x']),
    );
    const [first, second] = gateway.simulator.arrivals().map((each) => each.headers);
    expect([arrived(first!, 'accept'), arrived(first!, 'content-type')]).toEqual([
      'application/json',
      'application/json',
    ]);
    expect([arrived(second!, 'accept'), arrived(second!, 'content-type')]).toEqual(['text/csv', 'text/x']);
  });

  test('an empty start is a POST with Content-Length 0', async () => {
    await using gateway = await run();
    const response = await gateway.fetch('/api/v1/flows/1/start', { method: 'POST' });
    expect(response.status).toBe(200);
    const [arrival] = gateway.simulator.arrivals();
    expect(arrived(arrival!.headers, 'content-length')).toBe('0');
  });

  test('HEAD has no body, and the length of the GET', async () => {
    await using gateway = await run();
    const answer = await sendRaw(
      gateway.port,
      rawRequest('HEAD /api/v1/payload-metadata/1/download?bytes=777', [AUTH]),
    );
    expect(answer).toMatchObject({ status: 200, body: '' });
    expect(answer.headers['content-length']).toBe('777');
  });

  test('hop-by-hop, forwarding, override and cookie headers are stripped', async () => {
    await using gateway = await run();
    const ending = {
      'Keep-Alive': 'timeout=5',
      TE: 'trailers',
      'Proxy-Authorization': 'x',
      'X-Private': 'named by Connection',
      Cookie: 'a=b',
      Forwarded: 'for=1.2.3.4',
      'X-Forwarded-For': '1.2.3.4',
      'X-Forwarded-Host': 'evil.test',
      'X-Real-IP': '1.2.3.4',
      'X-HTTP-Method-Override': 'DELETE',
      'X-Original-URL': '/api/v1/users',
      Prefer: 'wait=5',
    };
    const lines = Object.entries(ending).map(([name, value]) => `${name}: ${value}`);
    const text = rawRequest('GET /api/v1/flow-runs', [AUTH, ...lines, 'X-Kept: yes', 'x-kept: again']).replace(
      'Connection: close',
      'Connection: close, X-Private',
    );
    expect((await sendRaw(gateway.port, text)).status).toBe(200);
    const { headers } = gateway.simulator.arrivals()[0]!;
    for (const name of Object.keys(ending)) expect(arrived(headers, name), name).toBeUndefined();
    expect(headers.filter((_, index) => headers[index - 1]?.toLowerCase() === 'x-kept')).toEqual(['yes', 'again']);
    expect(arrived(headers, 'host')).toBe(new URL(gateway.simulator.url).host);
  });

  test('cookies, limits and hop-by-hop headers of the upstream do not reach the caller', async () => {
    await using gateway = await run();
    gateway.simulator.fault({
      match: 'GET /api/v1/**',
      fault: {
        kind: 'status',
        status: 200,
        body: '{}',
        headers: {
          'Set-Cookie': 'session=1',
          'Alt-Svc': 'h3=":443"',
          'X-RateLimit-Limit': '240',
          'X-RateLimit-Remaining': '200',
          Connection: 'X-Inner',
          'X-Inner': '1',
          'X-Kept': 'yes',
          'X-Request-Id': 'theirs',
        },
      },
    });
    const response = await gateway.fetch('/api/v1/flow-runs');
    expect(response.headers.get('x-kept')).toBe('yes');
    for (const name of ['set-cookie', 'alt-svc', 'x-inner']) expect(response.headers.get(name), name).toBeNull();
    expect(response.headers.get('x-ratelimit-limit')).toBe('200');
    expect(response.headers.get('x-request-id')).not.toBe('theirs');
  });

  test('keeps a valid X-Request-Id to the upstream and back, and replaces any other', async () => {
    await using gateway = await run();
    const kept = await gateway.fetch('/api/v1/flow-runs', { headers: { 'X-Request-Id': 'order-4711' } });
    expect(kept.headers.get('x-request-id')).toBe('order-4711');
    expect(arrived(gateway.simulator.arrivals()[0]!.headers, 'x-request-id')).toBe('order-4711');
    const replaced = await gateway.fetch('/api/v1/flow-runs', { headers: { 'X-Request-Id': 'a b"c' } });
    expect(replaced.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('responses', () => {
  test.each([404, 422, 500, 403, 204, 418])('with status %i pass with body and headers', async (status) => {
    await using gateway = await run();
    const body = status === 204 ? '' : '{"message":"as it is","errors":{"a":["b"]}}';
    gateway.simulator.fault({
      match: 'POST /api/v1/**',
      fault: { kind: 'status', status, body, headers: { 'X-Own': 'yes' } },
    });
    const response = await gateway.fetch('/api/v1/data-pool', { method: 'POST', body: '{}' });
    expect([response.status, await response.text(), response.headers.get('x-own')]).toEqual([status, body, 'yes']);
  });

  test('redirects are passed on, never followed, and rewritten to the gateway if they lead to the upstream', async () => {
    await using gateway = await run();
    const path = '/api/v1/payload-metadata/1/download?redirect=';
    const elsewhere = await gateway.fetch(`${path}https://files.example.test/x?sig=1`);
    expect([elsewhere.status, elsewhere.headers.get('location')]).toEqual([302, 'https://files.example.test/x?sig=1']);
    const back = await gateway.fetch(`${path}${gateway.simulator.url}/api/v1/flows/1`);
    expect(back.headers.get('location')).toBe(`${gateway.url}/api/v1/flows/1`);
    expect(gateway.simulator.arrivals()).toHaveLength(2);
  });

  test('pagination can be followed to the end without leaving the gateway', async () => {
    await using gateway = await run();
    let next: string | null = `${gateway.url}/api/v1/flows?per_page=10&filter%5Bis_enabled%5D=true%2Cfalse`;
    const ids: number[] = [];
    while (next !== null) {
      expect(next.startsWith(gateway.url)).toBe(true);
      const page = (await (await gateway.fetch(next.slice(gateway.url.length))).json()) as Page;
      ids.push(...page.data.map((item: { id: number }) => item.id));
      expect(page.data[0]!.callback_url).toMatch(/^https:\/\/core\.wearepatchworks\.com/);
      next = page.links.next;
    }
    expect(ids).toEqual(Array.from({ length: 37 }, (_, index) => index + 1));
  });

  test('a payload passes byte for byte, also if it looks like links', async () => {
    await using gateway = await run();
    const response = await gateway.fetch('/api/v1/payload-metadata/1/download?bytes=3000000&type=application/json');
    const bytes = Buffer.from(await response.arrayBuffer());
    expect(bytes.length).toBe(3_000_000);
    const chunk = Buffer.alloc(65_536, 'patchworks payload ');
    expect(bytes.subarray(65_536, 131_072).equals(chunk)).toBe(true);
  });

  test('a slow body is passed on piece by piece', async () => {
    await using gateway = await run();
    gateway.simulator.fault({ match: 'GET /api/v1/**', fault: { kind: 'drip', pieces: 4, pauseMs: 100 } });
    const response = await gateway.fetch('/api/v1/flow-runs');
    const reader = response.body!.getReader();
    let pieces = 0;
    while (!(await reader.read()).done) pieces++;
    expect(pieces).toBeGreaterThanOrEqual(3);
  });
});

describe('request bodies', () => {
  test.each([[10_000], [2_000_000]])('of %i bytes arrive complete, with a length and chunked', async (size) => {
    await using gateway = await run();
    const body = Buffer.alloc(size, 'abc');
    const sum = createHash('sha256').update(body).digest('hex');
    await gateway.fetch('/api/v1/data-pool', { method: 'POST', body });
    const stream = new ReadableStream({
      start(controller) {
        for (let at = 0; at < size; at += 50_000) controller.enqueue(body.subarray(at, at + 50_000));
        controller.close();
      },
    });
    await gateway.fetch('/api/v1/data-pool', { method: 'POST', body: stream, duplex: 'half' } as RequestInit);
    expect(gateway.simulator.arrivals().map((each) => [each.bodyBytes, each.bodySha256])).toEqual([
      [size, sum],
      [size, sum],
    ]);
  });

  test('above the limit are rejected with 413 and not sent, declared or not', async () => {
    await using gateway = await run({
      config: (upstream) => configuration(upstream, { limits: { body: '64KiB', bufferedBody: '1KiB' } }),
    });
    const head = ['Content-Length: 104857600', AUTH];
    const declared = await sendRaw(gateway.port, rawRequest('POST /api/v1/data-pool', head, 'x'.repeat(200_000)));
    expect(declared.status).toBe(413);
    const detail = 'The gateway accepts request bodies of 65536 bytes at most. Send a smaller body.';
    expect(JSON.parse(declared.body)).toMatchObject({ code: 'body_too_large', detail });
    const chunk = `8000\r\n${'x'.repeat(0x8000)}\r\n`;
    const chunked = await sendRaw(
      gateway.port,
      rawRequest('POST /api/v1/data-pool', ['Transfer-Encoding: chunked', AUTH], chunk.repeat(4)),
    );
    expect(chunked.status).toBe(413);
    // The chunked one had begun to arrive: it is aborted, never completed.
    expect(gateway.simulator.arrivals().every((each) => each.status === null && each.bodySha256 === null)).toBe(true);
    expect((await gateway.fetch('/api/v1/flow-runs')).status).toBe(200);
  });

  test('a caller that waits for 100 Continue gets it only when its body is needed', async () => {
    await using gateway = await run();
    const wanted = ['Expect: 100-continue', 'Content-Length: 2', AUTH];
    const accepted = await sendRaw(gateway.port, rawRequest('POST /api/v1/flows/1/start', wanted, '{}'));
    expect(accepted.text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200/);
    const refused = await sendRaw(
      gateway.port,
      rawRequest('POST /api/v1/flows/1/start', ['Expect: 100-continue', 'Content-Length: 2']),
      1_000,
    );
    expect(refused.text).toMatch(/^HTTP\/1\.1 401/);
  });
});

describe('a caller that disconnects', () => {
  test('aborts its request at the upstream, before and after the response headers', async () => {
    await using gateway = await run();
    gateway.simulator.fault({ match: 'GET /api/v1/flow-runs', fault: { kind: 'stall', when: 'before' } });
    gateway.simulator.fault({ match: 'GET /api/v1/scripts', fault: { kind: 'stall', when: 'body' } });
    for (const path of ['/api/v1/flow-runs', '/api/v1/scripts']) {
      const abort = new AbortController();
      const pending = gateway.fetch(path, { signal: abort.signal }).then((response) => response.text());
      await eventually(() => gateway.simulator.arrivals().some((each) => each.target === path), 'arrival upstream');
      abort.abort();
      await expect(pending).rejects.toThrow();
      await eventually(
        () => gateway.simulator.arrivals().find((each) => each.target === path)!.aborted,
        `abort of ${path}`,
      );
    }
    await eventually(
      async () => (await gateway.metric('patchgate_http_requests_in_flight')) === 0,
      'nothing in flight',
    );
    expect(gateway.logs().filter((line) => line['aborted'] === true)).toHaveLength(2);
  });
});

describe('failures of the upstream', () => {
  const failing = async (fault: Parameters<Awaited<ReturnType<typeof run>>['simulator']['fault']>[0]['fault']) => {
    const gateway = await run({
      config: (upstream) =>
        configuration(upstream, {
          upstreams: { core: { origin: upstream, timeout: '300ms' }, start: { origin: upstream } },
        }),
    });
    gateway.simulator.fault({ match: '* /api/v1/**', fault });
    return gateway;
  };

  test('a timeout is 504, and the request is aborted', async () => {
    await using gateway = await failing({ kind: 'stall', when: 'before' });
    const response = await gateway.fetch('/api/v1/flow-runs');
    expect([response.status, await codeOf(response)]).toEqual([504, 'upstream_timeout']);
    await eventually(() => gateway.simulator.arrivals()[0]!.aborted, 'abort upstream');
  });

  test.each([
    ['reset', { kind: 'reset', when: 'before' }],
    ['garbage', { kind: 'garbage' }],
  ] as const)('a broken connection is 502 (%s), and the request was sent once', async (_name, fault) => {
    await using gateway = await failing(fault);
    const response = await gateway.fetch('/api/v1/data-pool', { method: 'POST', body: '{}' });
    expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_protocol']);
    expect(gateway.simulator.arrivals()).toHaveLength(1);
  });

  test('a refused connection is 502 upstream_unreachable, and uses no quota', async () => {
    await using gateway = await run({
      config: (upstream) =>
        configuration(upstream, { upstreams: { core: { origin: 'http://127.0.0.1:1' }, start: { origin: upstream } } }),
    });
    const response = await gateway.fetch('/api/v1/flow-runs');
    expect([response.status, await codeOf(response)]).toEqual([502, 'upstream_unreachable']);
    expect(await gateway.metric('patchgate_quota_slots_in_use')).toBe(0);
  });

  test.each([
    ['truncated by length', { kind: 'truncate', framing: 'length' }],
    ['truncated in chunks', { kind: 'truncate', framing: 'chunked' }],
    ['reset after the headers', { kind: 'reset', when: 'after' }],
    ['stalled in the body', { kind: 'stall', when: 'body' }],
  ] as const)('a response that breaks off at the upstream breaks off for the caller: %s', async (_name, fault) => {
    await using gateway = await failing(fault);
    const response = await gateway
      .fetch('/api/v1/flow-runs')
      .then((each) => each.text())
      .catch((error) => error);
    expect(response).toBeInstanceOf(Error);
    expect((await gateway.fetch('/_gateway/whoami')).status).toBe(200);
  });
});
