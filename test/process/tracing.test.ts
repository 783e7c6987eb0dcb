import { expect, test } from 'vitest';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, type Config, configuration } from '../support/gateway.ts';
import { collector } from '../support/otlp-collector.ts';
import { folder, patchgate } from '../support/process.ts';

/** Says at the end which modules of OpenTelemetry the process has loaded; prom-client brings its `api` along, which does nothing. */
const TELL = `
  import { createRequire } from 'node:module';
  const { cache } = createRequire('file:///');
  process.on('exit', () => {
    const loaded = Object.keys(cache).filter((name) => /@opentelemetry.(?!api[^-])/.test(name));
    process.stdout.write('loaded: ' + loaded.length + ' of ' + Object.keys(cache).length + '\\n');
  });
`;

async function loadedBy(tracing: Config | undefined): Promise<{ ofTracing: number; ofAll: number }> {
  const simulator = await createSimulator();
  const config = configuration(simulator.url, { tracing, drain: { delay: '0ms' } });
  await using files = await folder({ 'gateway.yaml': JSON.stringify(config), 'tell.mjs': TELL });
  const env = { NODE_OPTIONS: `--import=file://${files.path}/tell.mjs` };
  await using process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path, env });
  const { traffic } = await process.listening();
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
  const headers = { Authorization: `Bearer ${BILLING_KEY}`, traceparent };
  expect((await fetch(`http://127.0.0.1:${traffic}/api/v1/flow-runs`, { headers })).status).toBe(200);
  process.child.kill('SIGTERM');
  expect(await process.exited).toEqual({ code: 0, signal: null });
  await simulator.close();
  const [, ofTracing, ofAll] = /loaded: (\d+) of (\d+)/.exec(process.stdout()) ?? [];
  return { ofTracing: Number(ofTracing), ofAll: Number(ofAll) };
}

test('without an endpoint nothing of OpenTelemetry is loaded, also for a request that is traced by its caller', async () => {
  for (const tracing of [undefined, {}, { propagate: true }]) {
    const loaded = await loadedBy(tracing);
    expect(loaded.ofTracing).toBe(0);
    expect(loaded.ofAll).toBeGreaterThan(0);
  }
});

test('with one it is, and the last spans are sent before the process ends', async () => {
  await using receiver = await collector();
  const loaded = await loadedBy({ endpoint: receiver.endpoint });
  expect(loaded.ofTracing).toBeGreaterThan(0);
  expect(receiver.of('a'.repeat(32)).map(({ kind }) => kind)).toEqual(['server', 'client']);
});
