import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { elapsed, systemClock } from '../../src/clock.ts';
import { BILLING_KEY, configuration, loginAt, PRIMARY } from '../support/gateway.ts';
import { startGateway } from '../support/gateway-process.ts';
import { folder, patchgate } from '../support/process.ts';

const auth = { Authorization: `Bearer ${BILLING_KEY}` };

/** Reports when the program has its first listener for a signal. */
const REPORT_FIRST_LISTENER = `data:text/javascript,${encodeURIComponent(`
  const report = (event) => {
    if (!event.startsWith('SIG')) return;
    process.off('newListener', report);
    setImmediate(() => process.send('listens'));
  };
  process.on('newListener', report);
  process.channel.unref();
`)}`;

describe('SIGTERM', () => {
  test.each([0, 50, 100, 150, 200, 250, 300, 400])(
    'ends a process cleanly %i ms after the start of its program, loaded or not',
    async (afterMs) => {
      await using files = await folder({
        'gateway.yaml': JSON.stringify(configuration('http://127.0.0.1:1', { drain: { delay: '0ms' } })),
      });
      await using starting = patchgate(['serve', '--config', 'gateway.yaml'], {
        cwd: files.path,
        nodeArgs: ['--import', REPORT_FIRST_LISTENER],
      });
      await once(starting.child, 'message');
      starting.child.kill('SIGHUP');
      await elapsed(systemClock, afterMs);
      starting.child.kill('SIGTERM');
      expect(await starting.exited).toEqual({ code: 0, signal: null });
      expect(starting.stderr()).toBe('');
    },
  );

  test('loses no request: not ready at once, still accepting, in flight finished, exit 0', async () => {
    await using running = await startGateway({ drain: { delay: '500ms', timeout: '5s' } });
    running.simulator.switches.responseLatency = { kind: 'fixed', ms: 800 };
    const inFlight = fetch(`${running.url}/api/v1/flow-runs`, { headers: auth });
    const arrived = running.simulator.stats().arrived;
    while (running.simulator.stats().arrived === arrived) await new Promise((resolve) => setImmediate(resolve));
    running.process.child.kill('SIGTERM');
    let ready = await fetch(`${running.adminUrl}/readyz`);
    while (ready.status === 200) ready = await fetch(`${running.adminUrl}/readyz`);
    expect([ready.status, await ready.json()]).toEqual([503, { ready: false, reasons: ['draining'] }]);
    expect((await fetch(`${running.adminUrl}/livez`)).status).toBe(200);
    const late = await fetch(`${running.url}/_gateway/whoami`, { headers: auth });
    expect([late.status, late.headers.get('connection')]).toEqual([200, 'close']);
    expect((await inFlight).status).toBe(200);
    expect(await running.process.exited).toEqual({ code: 0, signal: null });
    expect(running.process.stdout()).toContain('"msg":"drained"');
    expect(running.process.stderr()).toBe('');
  });

  test('waits no longer than drain.timeout', async () => {
    await using stuck = await startGateway({ drain: { delay: '0ms', timeout: '300ms' } });
    stuck.simulator.fault({ match: 'GET /api/v1/flow-runs', fault: { kind: 'stall', when: 'before' } });
    const lost = fetch(`${stuck.url}/api/v1/flow-runs`, { headers: auth }).catch((error) => error);
    const arrived = stuck.simulator.stats().arrived;
    while (stuck.simulator.stats().arrived === arrived) await new Promise((resolve) => setImmediate(resolve));
    stuck.process.child.kill('SIGTERM');
    expect((await stuck.process.exited).code).toBe(0);
    expect(stuck.process.stdout()).toContain('drain timed out');
    expect(await lost).toBeInstanceOf(Error);
  });
});

test('Ctrl-C ends without the delay, a second signal at once', async () => {
  await using running = await startGateway({ drain: { delay: '1h', timeout: '1h' } });
  running.process.child.kill('SIGINT');
  expect((await running.process.exited).code).toBe(0);
  await using stuck = await startGateway({ drain: { delay: '1h', timeout: '1h' } });
  stuck.process.child.kill('SIGTERM');
  await stuck.process.waitFor(/"msg":"draining"/);
  stuck.process.child.kill('SIGTERM');
  expect((await stuck.process.exited).code).toBe(130);
});

test('no secret is in anything the process writes, at the most talkative level', async () => {
  await using running = await startGateway(
    {
      accounts: {
        main: { quota: { burst: 200 }, credentials: [{ ...PRIMARY, apiKey: '${KEY}' }, loginAt('http://127.0.0.1:1')] },
      },
      listen: { traffic: { host: '127.0.0.1', port: 0 }, admin: { host: '127.0.0.1', port: 0, token: '${ADMIN}' } },
    },
    { env: { LOG_LEVEL: 'trace', KEY: PRIMARY.apiKey, ADMIN: 'admin-token-canary' } },
  );
  const shown: string[] = [];
  const see = async (url: string, headers: Record<string, string>) => {
    const response = await fetch(url, { headers });
    shown.push(JSON.stringify([...response.headers]), await response.text());
  };
  await see(`${running.url}/api/v1/flow-runs/1?key=${PRIMARY.apiKey}`, auth);
  await see(`${running.url}/api/v1/${PRIMARY.apiKey}`, auth);
  running.simulator.credentials.revokeKey('primary');
  await see(`${running.url}/api/v1/flow-runs`, auth);
  await see(`${running.url}/api/v1/flow-runs`, { Authorization: 'Bearer some-guess' });
  for (const path of ['/metrics', '/status', '/config'])
    await see(`${running.adminUrl}${path}`, { Authorization: 'Bearer admin-token-canary' });
  expect((await fetch(`${running.adminUrl}/config`)).status).toBe(401);
  running.process.child.kill('SIGINT');
  await running.process.exited;
  const everything = shown.join('\n') + running.process.stdout() + running.process.stderr();
  // The caller's own words come back in an error of upstream that quotes the path; that one is not the gateway's.
  const ours = everything.replaceAll(`The route api\\/v1\\/${PRIMARY.apiKey} could not be found`, '');
  for (const secret of [PRIMARY.apiKey, 'admin-token-canary', 'fake-password', BILLING_KEY, 'some-guess']) {
    for (const form of [secret, Buffer.from(secret).toString('base64'), Buffer.from(secret).toString('hex')]) {
      expect(ours.includes(form), form).toBe(false);
    }
  }
  expect(running.process.stdout()).toContain('"msg":"request"');
});

test('every command that the demo prints works, and Ctrl-C ends it', async () => {
  await using process = patchgate(['demo', '--port', '0', '--admin-port', '0']);
  await process.waitFor(/Ctrl-C stops the demo/);
  const lines = process
    .stdout()
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => /^(?:curl|for) /.test(line));
  expect(lines).toHaveLength(6);
  const shell = promisify(execFile);
  const outputs: string[] = [];
  for (const line of lines) outputs.push((await shell('bash', ['-c', line], { timeout: 10_000 })).stdout);
  expect(outputs[0]).toMatch(/^HTTP\/1\.1 200[\s\S]*fwd=miss/);
  expect(outputs[1]).toMatch(/^HTTP\/1\.1 200[\s\S]*"status":0/);
  expect(outputs[2]).toMatch(/^HTTP\/1\.1 403/);
  expect(outputs[3]?.trim().split('\n')).toEqual(['200', '200', '200', '200', '200', '429', '429']);
  expect(JSON.parse(outputs[4]!)).toMatchObject({ tenant: 'reporting', quota: { requestsPerMinute: 30 } });
  const identity = { id: 'simulator:system:serviceaccount:demo:worker' };
  expect(JSON.parse(outputs[5]!)).toMatchObject({ tenant: 'worker', identity });
  process.child.kill('SIGINT');
  expect((await process.exited).code).toBe(0);
});

test('lost log lines would show: the count is exported by the running process, and is 0 while its reader keeps up', async () => {
  await using running = await startGateway();
  for (let i = 0; i < 200; i++) await (await fetch(`${running.url}/api/v1/flows`, { headers: auth })).arrayBuffer();
  const exposition = await (await fetch(`${running.adminUrl}/metrics`)).text();
  expect(exposition).toMatch(/^patchgate_log_lines_dropped_total 0$/m);
  running.process.child.kill('SIGINT');
  await running.process.exited;
  const lines = running.process.stdout().trimEnd().split('\n');
  expect(lines.filter((line) => JSON.parse(line).msg === 'request').length).toBe(201);
});
