import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { createLogger } from '../telemetry/log.ts';
import { createRedactor } from '../telemetry/redact.ts';
import { logConsole } from './serve.ts';

let restore = (): void => {};
afterEach(() => restore());

function logged() {
  const lines: string[] = [];
  const redactor = createRedactor();
  redactor.add('fake-secret');
  const destination = { write: (line: string) => void lines.push(line) };
  restore = logConsole(createLogger({ level: 'debug', access: null, version: '1', redactor, destination }));
  return () => lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('what a library writes to the console is a line of the log, masked and bounded, whichever way it writes', () => {
  const lines = logged();
  const { console } = globalThis;
  console.error('[lib] %s failed with fake-secret:', 'it', new Error('refused'));
  for (const method of ['warn', 'info', 'log', 'debug', 'trace'] as const) console[method]('x'.repeat(100_000));
  const said = lines();
  expect(said.map(({ level }) => level)).toEqual(['warn', 'warn', 'debug', 'debug', 'debug', 'debug']);
  expect(said[0]?.['text']).toMatch(/^\[lib\] it failed with .+: Error: refused\n/);
  expect(JSON.stringify(said)).not.toContain('fake-secret');
  for (const { text } of said) expect(String(text).length).toBeLessThanOrEqual(2_000);
});

test('a secret that lies where a text is cut off is not begun', () => {
  const lines = logged();
  const { console } = globalThis;
  console.error(`${'x'.repeat(1_995)}fake-secret`);
  process.emit('warning', Object.assign(new Error('y'), { stack: `${'y'.repeat(1_995)}fake-secret` }));
  expect(lines().map(({ text }) => String(text).slice(1_990))).toEqual(['xxxxx[secr', 'yyyyy[secr']);
});

test('a warning of Node is a line of the log, and no text beside it', async () => {
  const lines = logged();
  expect(process.listenerCount('warning')).toBe(1);
  const warned = once(process, 'warning');
  process.emitWarning('too many listeners', 'FakeWarning');
  await warned;
  expect(lines()).toMatchObject([
    { level: 'warn', msg: 'a warning of Node', text: expect.stringContaining('too many') },
  ]);
});
