import { describe, expect, test } from 'vitest';
import { emptyNotes } from '../exchange.ts';
import { createLogger } from './logger.ts';
import { createMetrics } from './metrics.ts';
import { createRedactor } from './redact.ts';

const CANARY = 'canary+secret/value "with" ünïcode';

function logging(level = 'trace') {
  const lines: string[] = [];
  const redactor = createRedactor();
  redactor.add(CANARY);
  const log = createLogger({ level, version: '1', redactor, destination: { write: (line) => void lines.push(line) } });
  return { log, redactor, lines, last: () => JSON.parse(lines.at(-1) ?? '{}') };
}

describe('a secret', () => {
  const forms: [string, string][] = [
    ['as it is', CANARY],
    ['in JSON', JSON.stringify({ inner: CANARY })],
    ['in JSON in JSON', JSON.stringify(JSON.stringify(CANARY))],
    ['in a URL', `https://x.test/?k=${encodeURIComponent(CANARY)}`],
    ['in base64', Buffer.from(CANARY).toString('base64')],
    ['in base64url', Buffer.from(CANARY).toString('base64url')],
    ['in hex', Buffer.from(CANARY).toString('hex')],
    ['in basic authentication', `Basic ${Buffer.from(`u:${CANARY}`).toString('base64')}`],
    ['in basic authentication of another length', `Basic ${Buffer.from(`me:${CANARY}!`).toString('base64')}`],
  ];

  test.each(forms)('%s does not get into the log: in a field, a message, an error, a cause', (_name, text) => {
    const { log, lines } = logging();
    log.info({ deep: { er: [text] } }, `message ${text}`);
    log.error({ err: new Error(text, { cause: new Error(text) }) }, 'failed');
    const written = lines.join('');
    for (const [, form] of forms) expect(written.includes(form.slice(8, -8)), form).toBe(false);
    expect(written).not.toContain('canary');
    expect(() => lines.map((line) => JSON.parse(line))).not.toThrow();
  });

  test('in a field that is named for it is masked though nobody knows its value', () => {
    const { log, lines } = logging();
    log.info(
      { headers: { authorization: 'Bearer unheard-of' }, password: 'unheard-of', a: { b: { token: 'unheard-of' } } },
      'x',
    );
    expect(lines.join('')).not.toContain('unheard-of');
  });

  test('that passes is known from when it was added; the oldest are forgotten, the configured never', () => {
    const { redactor } = logging();
    for (let i = 0; i < 100; i++) redactor.addPassing(`token-number-${i}`);
    expect(redactor.apply('token-number-99')).toBe('[secret]');
    expect(redactor.apply('token-number-3 ')).toBe('token-number-3 ');
    expect(redactor.apply(CANARY)).toBe('[secret]');
  });

  test('that is short is masked where it stands alone, and does not punch holes into words', () => {
    const { redactor } = logging();
    redactor.add('log');
    expect(redactor.apply('the log, logged')).toBe('the [secret], logged');
  });
});

describe('an access line', () => {
  const line = {
    ...emptyNotes(),
    requestId: 'r1',
    method: 'GET',
    route: '/api/v1/**',
    path: `/api/v1/${'x'.repeat(500)}`,
    status: 200,
    tenant: 'billing',
    key: 'now',
    code: null,
    cache: 'hit',
    durationMs: 1.2345,
    bytes: 10,
    client: '10.0.0.1',
    aborted: false,
    internal: null,
  } as const;

  test('has what happened, and leaves out what did not', () => {
    const { log, last } = logging('info');
    log.access(line);
    expect(last()).toMatchObject({
      level: 'info',
      msg: 'request',
      tenant: 'billing',
      route: '/api/v1/**',
      status: 200,
      cache: 'hit',
      waitMs: 0,
      upstreamMs: null,
      durationMs: 1.2,
    });
    expect(last()).not.toHaveProperty('code');
    expect(last()['path'].length).toBeLessThan(260);
    log.access({ ...line, code: 'flood', aborted: true, attempts: 2, upstreamStatus: 401 });
    expect(last()).toMatchObject({ code: 'flood', aborted: true, attempts: 2, upstreamStatus: 401 });
  });

  test('is not written above info', () => {
    const { log, lines } = logging('warn');
    log.access(line);
    expect(lines).toEqual([]);
  });
});

describe('metrics', () => {
  const make = () =>
    createMetrics({
      version: '1.2.3',
      sources: {
        accounts: () => [{ id: 'main', limit: 240, ceiling: 235, slotsInUse: 7, slotsForeign: 3, waiting: 1 }],
        cache: () => ({ entries: 2, bytes: 300 }),
        keyExpiries: () => [{ tenant: 'billing', key: 'now', epochSeconds: 1_800_000_000 }],
      },
    });

  test('have the names, types and labels that dashboards rely on', async () => {
    const metrics = make();
    metrics.requestStarted();
    metrics.requestStarted();
    metrics.requestFinished({
      tenant: 'billing',
      route: '/api/v1/**',
      method: 'GET',
      status: 200,
      cache: 'hit',
      code: null,
      seconds: 0.1,
    });
    metrics.upstreamAttempt('main', 'core', 'GET', 200, 0.2);
    metrics.upstreamRetry('core', 'credential');
    metrics.callSaved('billing', 'hit');
    metrics.quotaDecision('main', 'billing', 'admitted');
    metrics.quotaWait('billing', 0.5);
    metrics.upstreamThrottled('main');
    metrics.credentialRefresh('main', 'login', 'ok');
    metrics.credentialExpiry('main', 'login', 1_800_000_000);
    metrics.cacheOperation('memory', 'hit');
    metrics.configLoaded('ok', 1_700_000_000);
    metrics.requestFinished({
      tenant: 'billing',
      route: '',
      method: 'GET',
      status: 429,
      cache: 'none',
      code: 'tenant_quota',
      seconds: 0.1,
    });
    const text = await metrics.render();
    for (const line of [
      'patchgate_http_requests_total{tenant="billing",route="/api/v1/**",cache="hit",method="GET",status="200"} 1',
      'patchgate_http_request_duration_seconds_count{tenant="billing",route="/api/v1/**",cache="hit"} 1',
      'patchgate_http_requests_in_flight 0',
      'patchgate_refusals_total{tenant="billing",code="tenant_quota"} 1',
      'patchgate_upstream_requests_total{account="main",upstream="core",method="GET",status="200"} 1',
      'patchgate_upstream_request_duration_seconds_count{upstream="core"} 1',
      'patchgate_upstream_retries_total 1',
      'patchgate_upstream_calls_saved_total{tenant="billing",by="hit"} 1',
      'patchgate_quota_limit{account="main"} 240',
      'patchgate_quota_ceiling{account="main"} 235',
      'patchgate_quota_slots_in_use{account="main"} 7',
      'patchgate_quota_slots_foreign{account="main"} 3',
      'patchgate_quota_waiting{account="main"} 1',
      'patchgate_quota_decisions_total{account="main",tenant="billing",decision="admitted"} 1',
      'patchgate_quota_wait_seconds_count{tenant="billing"} 1',
      'patchgate_upstream_throttled_total{account="main"} 1',
      'patchgate_credential_refreshes_total{account="main",credential="login",outcome="ok"} 1',
      'patchgate_credential_expiry_timestamp_seconds{account="main",credential="login"} 1800000000',
      'patchgate_tenant_key_expiry_timestamp_seconds{tenant="billing",key="now"} 1800000000',
      'patchgate_cache_entries 2',
      'patchgate_cache_bytes 300',
      'patchgate_cache_operations_total{tier="memory",outcome="hit"} 1',
      'patchgate_state_up 1',
      'patchgate_state_fallback 0',
      'patchgate_config_reloads_total{outcome="ok"} 1',
      'patchgate_config_last_success_timestamp_seconds 1700000000',
      `patchgate_build_info{version="1.2.3",node="${process.version}"} 1`,
    ]) {
      expect(text.split('\n')).toContain(line);
    }
    expect(text).toMatch(/^process_resident_memory_bytes /m);
    for (const name of text.matchAll(/^# TYPE (patchgate_\S+) counter$/gm)) expect(name[1]).toMatch(/_total$/);
  });

  test('do not grow with what callers invent', async () => {
    const metrics = make();
    const finish = (method: string) => {
      metrics.requestStarted();
      metrics.requestFinished({
        tenant: '',
        route: '',
        method,
        status: 400,
        cache: 'none',
        code: 'bad_request',
        seconds: 0,
      });
    };
    finish('BREW');
    const before = (await metrics.render()).split('\n').length;
    for (let i = 0; i < 1000; i++) finish(`X${i}`);
    expect((await metrics.render()).split('\n').length).toBe(before);
  });

  test('forget tenants that are gone', async () => {
    const metrics = make();
    for (const tenant of ['stays', 'goes']) {
      metrics.requestFinished({
        tenant,
        route: '/x',
        method: 'GET',
        status: 200,
        cache: 'hit',
        code: null,
        seconds: 0,
      });
      metrics.quotaWait(tenant, 1);
    }
    await metrics.keepTenants(new Set(['stays']));
    const text = await metrics.render();
    expect(text).toContain('tenant="stays"');
    expect(text).not.toContain('tenant="goes"');
    metrics.requestFinished({
      tenant: 'goes',
      route: '/x',
      method: 'GET',
      status: 200,
      cache: 'hit',
      code: null,
      seconds: 0,
    });
    expect(await metrics.render()).toContain('tenant="goes"');
  });
});
