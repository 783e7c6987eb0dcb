import { format } from 'node:util';
import type { Logger } from './log.ts';

const METHODS = ['error', 'warn', 'info', 'log', 'debug', 'trace'] as const;
/** A stack, and no dump of an object. */
const LONGEST_TEXT = 2_000;

/**
 * What libraries and Node say of themselves goes into the log: by the console it would be lines that no collector can parse, past
 * the mask of secrets. ioredis says there that a Sentinel is gone, and that a server asks for no password; Node warns of leaks.
 *
 * @returns puts it back
 */
export function logConsole(log: Logger): () => void {
  // Before it is cut: of a secret that lies across the end nobody would know its beginning.
  const short = (text: string): string => log.mask(text).slice(0, LONGEST_TEXT);
  const { console } = globalThis;
  const before = METHODS.map((method) => [method, console[method]] as const);
  for (const method of METHODS) {
    const level = method === 'error' || method === 'warn' ? 'warn' : 'debug';
    console[method] = (...said: unknown[]) =>
      log[level]({ text: short(format(...said)) }, 'a library wrote to the console');
  }
  // Node's own prints to standard error.
  const printing = process.listeners('warning');
  process.removeAllListeners('warning');
  const tell = ({ name, message, stack }: Error): void =>
    log.warn({ text: short(stack ?? `${name}: ${message}`) }, 'a warning of Node');
  process.on('warning', tell);
  return () => {
    for (const [method, own] of before) console[method] = own;
    process.off('warning', tell);
    for (const each of printing) process.on('warning', each);
  };
}
