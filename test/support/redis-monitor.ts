import { connect } from 'node:net';
import { eventually } from './gateway.ts';

export interface RedisMonitor {
  /** Lines of MONITOR so far, as Redis writes them. */
  lines(): string[];
  /** The arguments of the commands so far, with the escapes of Redis undone. */
  text(): string;
  [Symbol.dispose](): void;
}

/** Reports the commands that reach a Redis from now on. By a plain socket: ioredis' `monitor()` mistakes the first ones for replies. */
export async function monitorRedis(port: number, password?: string): Promise<RedisMonitor> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1');
  let text = '';
  socket.on('data', (piece: string) => {
    text += piece;
  });
  socket.on('error', () => {});
  const login = password === undefined ? '' : `AUTH ${quoted(password)}\r\n`;
  socket.write(`${login}MONITOR\r\n`);
  const replies = `${password === undefined ? '' : '+OK\r\n'}+OK\r\n`;
  await eventually(() => text.startsWith(replies), 'the first reply');
  return {
    lines: () => text.slice(replies.length).split('\r\n').slice(0, -1),
    text: () => unescaped(text),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

function quoted(value: string): string {
  return `"${value.replace(/["\\]/g, '\\$&')}"`;
}

const NAMED: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' };

function unescaped(line: string): string {
  const bytes = line.replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex: string | undefined, char: string) =>
    hex === undefined ? (NAMED[char] ?? char) : String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
