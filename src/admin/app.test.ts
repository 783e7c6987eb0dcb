import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { rawRequest, sendRaw } from '../../test/support/raw-http.ts';
import { dial } from '../../test/support/raw-socket.ts';
import { createGuessLimit } from '../adapters/abuse-limits.ts';
import { Secret } from '../secret.ts';
import { type AdminOptions, createAdminApp, createAdminListener } from './app.ts';
import { createAudit } from './audit.ts';
import { ADMIN_HEADERS } from './problem-response.ts';
import { composePage } from './ui/page.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const TOKEN = 'admin-token-0123456789';
const PATHS = ['/livez', '/readyz', '/metrics', '/status', '/config', '/', '/events'];
const PROTECTED = [
  '/metrics',
  '/status',
  '/config',
  '/cache/purge',
  '/',
  '/events',
  '/unknown',
  '/reload',
  '/livez/',
  '/readyz/x',
  '//livez',
];

async function admin(options: Partial<AdminOptions> = {}) {
  const logged: { fields: Record<string, unknown>; message: string }[] = [];
  const audited: Record<string, unknown>[] = [];
  const audit = (level: string, fields: Record<string, unknown>, message: string) =>
    void audited.push({ level, ...fields, message });
  const note = (fields: Record<string, unknown>, message: string) => void logged.push({ fields, message });
  const app = createAdminApp({
    tokens: [],
    guessLimit: createGuessLimit({ clock: new ManualClock(), limit: 20 }),
    isTrustedProxy: () => false,
    readiness: () => ({ ready: true, reasons: [] }),
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4; charset=utf-8', text: '# HELP up Up.\n' }),
    status: () => ({ accounts: { main: { slotsInUse: 3 } } }),
    config: () => ({ listen: { admin: { token: '[secret]' } } }),
    purge: async () => ({ ok: true, purged: { accounts: ['main'], entries: 3 } }),
    reload: null,
    page: composePage(),
    events: {
      attach: (outgoing) => {
        outgoing.writeHead(200, { ...ADMIN_HEADERS, 'Content-Type': 'text/event-stream' }).end();
        return true;
      },
    },
    audit: createAudit({ log: { audit }, clock: new ManualClock() }),
    log: { debug: note, info: note, warn: note, error: note },
    ...options,
  });
  const { server } = createAdminListener(app, { tls: null, handshakeTimeoutMs: 0, onHandshake: () => {} });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const send = (line: string, headers: readonly string[] = []) => sendRaw(port, rawRequest(line, headers));
  return {
    port,
    send,
    logged,
    audited,
    get: (path: string, headers: readonly string[] = []) => send(`GET ${path}`, headers),
  };
}

describe('the admin port', () => {
  it('lives as long as it answers', async () => {
    const { get } = await admin({ readiness: () => ({ ready: false, reasons: ['draining'] }) });
    expect(await get('/livez')).toMatchObject({ status: 200, body: 'ok\n' });
  });

  it('rejects a target that it cannot read with a problem document', async () => {
    const { get } = await admin();
    const { status, headers } = await get('/a\\b');
    expect([status, headers['content-type']]).toEqual([400, 'application/problem+json']);
  });

  it('is ready, or says why not, as of now', async () => {
    let reasons: string[] = [];
    const { get } = await admin({ readiness: () => ({ ready: reasons.length === 0, reasons }) });
    const ready = await get('/readyz');
    expect([ready.status, JSON.parse(ready.body)]).toEqual([200, { ready: true, reasons: [] }]);
    reasons = ['draining'];
    const draining = await get('/readyz');
    expect([draining.status, JSON.parse(draining.body)]).toEqual([503, { ready: false, reasons: ['draining'] }]);
  });

  it('serves metrics in the type Prometheus expects, status and configuration as JSON', async () => {
    const { get } = await admin();
    const metrics = await get('/metrics');
    expect(metrics.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
    expect(metrics.body).toBe('# HELP up Up.\n');
    const status = await get('/status');
    expect(status.headers['content-type']).toBe('application/json');
    expect(JSON.parse(status.body)).toEqual({ accounts: { main: { slotsInUse: 3 } } });
    expect(JSON.parse((await get('/config')).body)).toEqual({ listen: { admin: { token: '[secret]' } } });
  });

  it('answers HEAD as GET, without a body', async () => {
    const { send, get } = await admin();
    for (const path of PATHS) {
      const head = await send(`HEAD ${path}`);
      expect([path, head.status, head.body]).toEqual([path, 200, '']);
      expect(head.headers['content-type']).toBe((await get(path)).headers['content-type']);
    }
  });

  it('refuses other methods and names those it takes', async () => {
    const { send } = await admin();
    for (const path of PATHS)
      for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
        const answer = await send(`${method} ${path}`);
        expect([answer.status, answer.headers['allow']]).toEqual([405, 'GET, HEAD']);
        expect(JSON.parse(answer.body)).toMatchObject({ status: 405, code: 'method_not_allowed' });
      }
  });

  it('knows no other path', async () => {
    const { get } = await admin();
    const answer = await get('/api/v1/flows');
    expect(answer.status).toBe(404);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(JSON.parse(answer.body)).toMatchObject({ type: 'about:blank', title: 'Not Found', status: 404 });
  });

  it('lets nothing be kept, sniffed or framed, whatever the response', async () => {
    const { get, send } = await admin({ status: () => BigInt(1) });
    const answers = await Promise.all([...PATHS, '/unknown'].map((path) => get(path)));
    for (const { headers } of [...answers, await send('POST /metrics')]) {
      expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
      expect(headers['content-security-policy']).toContain("default-src 'none'");
    }
  });

  it('tells the log what failed, and the caller only under which id', async () => {
    const fail = () => {
      throw new Error('connect ECONNREFUSED redis://10.0.0.7');
    };
    const { get, logged } = await admin({ status: fail, metrics: async () => fail() });
    for (const path of ['/status', '/metrics']) {
      const answer = await get(path);
      const body = JSON.parse(answer.body);
      expect([answer.status, body.code]).toEqual([500, 'internal']);
      expect(answer.text).not.toMatch(/redis|10\.0|ECONN|at /);
      expect(logged.at(-1)).toMatchObject({ fields: { requestId: body.requestId, path } });
    }
  });
});

describe('with a token', () => {
  const tokens = [{ id: 'admin', token: new Secret(TOKEN), role: 'operate' }] as const;

  it('all but the probes need it, unknown paths too', async () => {
    const { get } = await admin({ tokens });
    expect((await get('/livez')).status).toBe(200);
    expect((await get('/readyz')).status).toBe(200);
    for (const path of PROTECTED) {
      const answer = await get(path);
      expect([path, answer.status]).toEqual([path, 401]);
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="patchgate"');
      expect(JSON.parse(answer.body)).toMatchObject({ status: 401, code: 'unauthorized' });
    }
  });

  it('it opens them, however the scheme is written', async () => {
    const { get } = await admin({ tokens });
    for (const scheme of ['Bearer', 'bearer', 'BEARER'])
      expect((await get('/metrics', [`Authorization: ${scheme} ${TOKEN}`])).status).toBe(200);
    expect((await get('/unknown', [`Authorization: Bearer ${TOKEN}`])).status).toBe(404);
  });

  it('guesses of it are limited by address, and then the right one is rejected too; the same wrong one is no guess', async () => {
    const clock = new ManualClock();
    const guessLimit = createGuessLimit({ clock, limit: 3 });
    const { get } = await admin({ tokens, guessLimit });
    const statusOf = async (path: string, given?: string) =>
      (await get(path, given === undefined ? [] : [`Authorization: Bearer ${given}`])).status;
    for (let i = 0; i < 10; i++) expect(await statusOf('/metrics', 'of-yesterday')).toBe(401);
    expect(await statusOf('/metrics', TOKEN)).toBe(200);
    expect(await statusOf('/status', 'guess-1')).toBe(401);
    expect(await statusOf('/unknown', 'guess-2')).toBe(401);
    const blocked = await get('/config', [`Authorization: Bearer ${TOKEN}`]);
    expect([blocked.status, blocked.headers['retry-after']]).toEqual([429, '60']);
    expect(JSON.parse(blocked.body)).toMatchObject({ status: 429, code: 'address_blocked' });
    expect(await statusOf('/livez')).toBe(200);
    expect(await statusOf('/readyz')).toBe(200);
    clock.advance(60_001);
    expect(await statusOf('/config', TOKEN)).toBe(200);
  });

  it('the right one is let in where the blocked address is a trusted proxy, and a wrong one is not', async () => {
    const guessLimit = createGuessLimit({ clock: new ManualClock(), limit: 2 });
    const { get } = await admin({ tokens, guessLimit, isTrustedProxy: (address) => address === '127.0.0.1' });
    const statusOf = async (given: string) => (await get('/metrics', [`Authorization: Bearer ${given}`])).status;
    expect([await statusOf('guess-1'), await statusOf('guess-2')]).toEqual([401, 401]);
    expect([await statusOf('guess-3'), await statusOf(TOKEN)]).toEqual([429, 200]);
  });

  it('a wrong one opens nothing, and is not echoed', async () => {
    const { get } = await admin({ tokens });
    const wrong = ['Bearer', 'Bearer ', `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(0, -1)}`, `Bearer x ${TOKEN}`, TOKEN];
    for (const value of [...wrong, `Basic ${TOKEN}`, `Bearer ${TOKEN.toUpperCase()}`]) {
      const answer = await get('/config', [`Authorization: ${value}`]);
      expect([value, answer.status]).toEqual([value, 401]);
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="patchgate", error="invalid_token"');
      expect(answer.text).not.toContain(TOKEN.slice(0, -1));
    }
  });

  it('no spelling of an open path leads around it', async () => {
    const { get, send } = await admin({ tokens });
    for (const path of ['/livez/../metrics', '/livez/%2e%2e/metrics', '/livez;/metrics', '/livez%2f..%2fmetrics'])
      expect([path, (await get(path)).status]).toEqual([path, 401]);
    expect((await get('/metrics?x=/livez')).status).toBe(401);
    expect((await send('HEAD /metrics')).status).toBe(401);
    expect((await send('POST /metrics')).status).toBe(401);
  });

  it('a browser at / is asked for it by a page that is 401 like all else, and says nothing more', async () => {
    const { get, send } = await admin({ tokens });
    const accept = 'Accept: text/html,application/xhtml+xml,*/*;q=0.8';
    for (const wrong of [[], ['Authorization: Bearer wrong']]) {
      const answer = await get('/', [accept, ...wrong]);
      expect([answer.status, answer.headers['content-type']]).toEqual([401, 'text/html; charset=utf-8']);
      expect(answer.headers['www-authenticate']).toMatch(/^Bearer /);
      expect(answer.headers['cache-control']).toBe('no-store');
    }
    const shown = await get('/', [accept, `Authorization: Bearer ${TOKEN}`]);
    expect([shown.status, shown.body]).toEqual([200, (await get('/', [accept])).body]);
    for (const path of ['/status', '/events', '//', '/index.html', '/unknown'])
      expect([path, (await get(path, [accept])).headers['content-type']]).toEqual([path, 'application/problem+json']);
    expect((await send('POST /', [accept])).headers['content-type']).toBe('application/problem+json');
  });

  it('an empty one is a mistake found at the start, for it would open everything', async () => {
    await expect(admin({ tokens: [{ id: 'a', token: new Secret(''), role: 'read' }] })).rejects.toThrow('empty');
  });
});

describe('a role', () => {
  const tokens = (['metrics', 'read', 'operate'] as const).map((role) => ({
    ...{ id: `of-${role}`, token: new Secret(`fake-token-of-${role}`), role },
  }));
  const bearer = (role: string) => `Authorization: Bearer fake-token-of-${role}`;
  const REQUESTS: readonly (readonly [request: string, needed: string | null])[] = [
    ['GET /livez', null],
    ['GET /readyz', null],
    ['GET /metrics', 'metrics'],
    ['GET /status', 'read'],
    ['GET /config', 'read'],
    ['GET /', 'read'],
    ['GET /events', 'read'],
    ['POST /cache/purge', 'operate'],
    ['POST /reload', 'operate'],
  ];
  const body = ['Content-Type: application/json', 'Content-Length: 18', '', '{"account":"main"}'];
  const reloaded = { ok: true, revision: 'r', changed: [], needsRestart: [] } as const;

  it('may do what it needs and what smaller roles may, and nothing more; no token is 401', async () => {
    const { send } = await admin({ tokens, reload: async () => reloaded });
    const order = ['metrics', 'read', 'operate'];
    for (const [request, needed] of REQUESTS) {
      for (const role of order) {
        const answer = await send(request, [bearer(role), ...(request.startsWith('POST /cache') ? body : [])]);
        const may = needed === null || order.indexOf(role) >= order.indexOf(needed);
        expect([request, role, answer.status]).toEqual([request, role, may ? 200 : 403]);
        if (may) continue;
        expect(answer.headers['content-type']).toBe('application/problem+json');
        expect(JSON.parse(answer.body)).toMatchObject({ status: 403, code: 'forbidden' });
      }
      expect([request, (await send(request)).status]).toEqual([request, needed === null ? 200 : 401]);
    }
    // By another method, and with the mark of a browser, a path is as closed as ever.
    for (const line of ['GET /cache/purge', 'PUT /status', 'HEAD /config'])
      expect([line, (await send(line, [bearer('metrics'), 'Accept: text/html'])).status]).toEqual([line, 403]);
    expect((await send('GET /unknown', [bearer('metrics')])).status).toBe(404);
  });

  it('too small is no guess: it blocks no address', async () => {
    const guessLimit = createGuessLimit({ clock: new ManualClock(), limit: 3 });
    const { send } = await admin({ tokens, guessLimit });
    for (let i = 0; i < 10; i++) expect((await send('GET /status', [bearer('metrics')])).status).toBe(403);
    expect((await send('GET /metrics', [bearer('metrics')])).status).toBe(200);
  });

  it('is handed to the page with the first event', async () => {
    const seen: unknown[] = [];
    const events: AdminOptions['events'] = {
      attach: (outgoing, holder) => {
        seen.push(holder);
        outgoing.writeHead(200).end();
        return true;
      },
    };
    const { get } = await admin({ tokens, events });
    await get('/events', [bearer('read')]);
    const { get: getOpen } = await admin({ events });
    await getOpen('/events');
    expect(seen).toEqual([
      { id: 'of-read', role: 'read' },
      { id: 'anonymous', role: 'operate' },
    ]);
  });

  it('every purge, reload and refused call is audited: who, what, where from and how it ended', async () => {
    const asked: unknown[] = [];
    let fails = false;
    const { send, audited } = await admin({
      tokens,
      purge: async ({ account }) => {
        if (fails) throw new Error('Redis is gone');
        if (account === 'main') return { ok: true, purged: { accounts: ['main'], entries: 7 } };
        return { ok: false, detail: 'no such account' };
      },
      reload: async (by) => {
        asked.push(by);
        return reloaded;
      },
    });
    const address = '127.0.0.1';
    const post = (path: string, role: string, text: string, more: string[] = []) =>
      send(`POST ${path}`, [
        ...[bearer(role), ...more, 'Content-Type: application/json'],
        ...[`Content-Length: ${text.length}`, '', text],
      ]);
    await post('/cache/purge', 'operate', '{"account":"main","path":"/api/v1/flows/**"}');
    await post('/cache/purge', 'operate', `{"account":"x","tag":"${'t'.repeat(999)}"}`);
    await post('/cache/purge', 'operate', '{}');
    fails = true;
    await post('/cache/purge', 'operate', '{"tag":"a"}');
    await post('/reload', 'operate', '');
    await post('/reload', 'read', '');
    await post('/reload', 'operate', '', ['Origin: https://evil.test']);
    await send('GET /status', ['Authorization: Bearer fake-guess']);
    expect(asked).toEqual([{ actor: 'of-operate', address }]);
    const operator = { actor: 'of-operate', address };
    expect(audited).toMatchObject([
      { ...operator, action: 'purge', target: '/api/v1/flows/** of main', outcome: 'ok', entries: 7, level: 'info' },
      { ...operator, action: 'purge', outcome: 'refused', code: 'bad_request', level: 'warn' },
      { ...operator, action: 'purge', target: 'POST /cache/purge', outcome: 'refused', code: 'bad_request' },
      { ...operator, action: 'purge', target: 'tag a of all accounts', outcome: 'failed' },
      { actor: 'of-read', action: 'reload', target: 'POST /reload', outcome: 'refused', code: 'forbidden', address },
      { ...operator, action: 'reload', outcome: 'refused', code: 'cross_site' },
      { actor: 'unknown', action: 'read', target: 'GET /status', outcome: 'refused', code: 'unauthorized', address },
    ]);
    expect(String(audited[1]?.['target'])).toHaveLength(200);
    expect(JSON.stringify(audited)).not.toMatch(/fake-guess|fake-token/);
  });

  it('a flood of refused calls leaves a few lines, and hides no purge', async () => {
    const clock = new ManualClock();
    const audited: Record<string, unknown>[] = [];
    const log = {
      audit: (_: string, fields: Record<string, unknown>, message: string) => void audited.push({ ...fields, message }),
    };
    const { send } = await admin({ tokens, audit: createAudit({ clock, log }) });
    for (let i = 0; i < 40; i++) await send('GET /status');
    for (let i = 0; i < 12; i++) await send('POST /cache/purge', [bearer('operate'), ...body]);
    for (let i = 0; i < 40; i++) await send('POST /cache/purge');
    const of = (message: string) => audited.filter((each) => each['message'] === message);
    expect([of('admin call refused').length, of('cache purged').length]).toEqual([10, 12]);
    clock.advance(60_000);
    expect(of('more admin calls refused')).toMatchObject([{ outcome: 'refused', calls: 70 }]);
  });
});

describe('the events', () => {
  it('are refused where as many listen as may, and to a page of another site, which could take all places', async () => {
    const { get, send } = await admin({ events: { attach: () => false } });
    const full = await get('/events');
    expect([full.status, full.headers['retry-after'], JSON.parse(full.body).code]).toEqual([
      503,
      '10',
      'too_many_listeners',
    ]);
    expect((await get('/events', ['Sec-Fetch-Site: cross-site'])).status).toBe(403);
    expect((await send('HEAD /events')).headers['content-type']).toBe('text/event-stream');
  });
});

describe('a purge', () => {
  const purging = async (body: string, headers: readonly string[] = ['Content-Type: application/json']) => {
    const asked: unknown[] = [];
    const { send } = await admin({
      purge: async (purge) => {
        asked.push(purge);
        return purge.account === 'unknown' ? { ok: false, detail: 'There is no account "unknown".' } : OK;
      },
    });
    const reply = await send('POST /cache/purge', [...headers, `Content-Length: ${body.length}`, '', body]);
    return { ...reply, said: JSON.parse(reply.body) as { detail?: string; code?: string }, asked };
  };
  const OK = { ok: true, purged: { accounts: ['main'], entries: 3 } } as const;

  it.each([
    [
      '{"path":"/api/v1/flows/**","account":"main"}',
      { path: ['api', 'v1', 'flows', '**'], account: 'main', tag: null },
    ],
    ['{"tag":"definitions"}', { path: null, account: null, tag: 'definitions' }],
    ['{"account":"main"}', { path: null, account: 'main', tag: null }],
  ])('%s', async (body, expected) => {
    const { status, said, asked } = await purging(body);
    expect([status, said, asked]).toEqual([200, { accounts: ['main'], entries: 3 }, [expected]]);
  });

  it.each([
    ['{', 'The body is not JSON.'],
    ['[]', 'The body must be a JSON object.'],
    ['{}', 'Name what to remove: a path, a tag, or an account.'],
    ['{"paht":"/a"}', 'There is no field "paht"; known are account, path, tag.'],
    ['{"path":7}', 'The field "path" must be a non-empty string.'],
    ['{"path":"flows"}', 'The field "path" is not a path pattern: the path "flows" must begin with /.'],
    ['{"account":"unknown"}', 'There is no account "unknown".'],
  ])('refuses %s and says why', async (body, detail) => {
    expect(await purging(body)).toMatchObject({ status: 400, said: { code: 'bad_request', detail } });
  });

  it('is refused above 64 KiB, whether it declares its length or comes in chunks without an end', async () => {
    expect(await purging(' '.repeat(64 * 1024 + 1))).toMatchObject({ status: 400, asked: [] });
    const { port } = await admin({});
    using caller = await dial(port);
    const json = 'Content-Type: application/json';
    caller.write(`POST /cache/purge HTTP/1.1\r\nHost: x\r\n${json}\r\nTransfer-Encoding: chunked\r\n\r\n`);
    // No last chunk: only a limit ends this request.
    for (let i = 0; i < 5; i++) caller.write(`4000\r\n${' '.repeat(0x4000)}\r\n`);
    await caller.responses(1);
    expect(caller.statuses()).toEqual([400]);
    expect(caller.received()).toContain('larger than 65536 bytes');
  });

  it('takes JSON alone, and nothing from a page of another site', async () => {
    const body = '{"account":"main"}';
    expect(await purging(body, ['Content-Type: text/plain'])).toMatchObject({ status: 415, asked: [] });
    const json = 'Content-Type: application/json';
    for (const from of ['Sec-Fetch-Site: cross-site', 'Origin: https://evil.test', 'Origin: null']) {
      expect(await purging(body, [json, from])).toMatchObject({ status: 403, said: { code: 'cross_site' }, asked: [] });
    }
    expect((await purging(body, [json, 'Sec-Fetch-Site: same-origin'])).status).toBe(200);
  });
});
