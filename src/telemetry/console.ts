import { format } from 'node:util';
import type { Logger } from './log.ts';

const METHODS = ['error', 'warn', 'info', 'log', 'debug', 'trace'] as const;
/** Room for a stack, but not for the dump of an object. */
const MAX_TEXT_CHARS = 2_000;

/**
 * Sends the console and Node's warnings to the log. On the console they would be lines that no collector can parse, with
 * secrets in them. ioredis reports there that a server asks for no password, or forbids INFO.
 *
 * @returns restores the console
 */
export function logConsole(log: Logger): () => void {
  // Masked before it is cut: the mask does not recognise the beginning of a secret.
  const short = (text: string): string => log.mask(text).slice(0, MAX_TEXT_CHARS);
  const { console } = globalThis;
  const before = METHODS.map((method) => [method, console[method]] as const);
  for (const method of METHODS) {
    const level = method === 'error' || method === 'warn' ? 'warn' : 'debug';
    console[method] = (...values: unknown[]) =>
      log[level]({ text: short(format(...values)) }, 'a library wrote to the console');
  }
  // Node's own listener prints to standard error.
  const printers = process.listeners('warning');
  process.removeAllListeners('warning');
  const logWarning = ({ name, message, stack }: Error): void =>
    log.warn({ text: short(stack ?? `${name}: ${message}`) }, 'a warning of Node');
  process.on('warning', logWarning);
  return () => {
    for (const [method, own] of before) console[method] = own;
    process.off('warning', logWarning);
    for (const each of printers) process.on('warning', each);
  };
}
