import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { connect } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { AUTHORITY, tlsFront } from './tls.mjs';

/** A front before a server that takes connections and says nothing. */
async function front() {
  const server = createServer((socket) => void socket.resume());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const opened = await tlsFront((server.address() as { port: number }).port);
  onTestFinished(async () => {
    await opened.close();
    server.close();
  });
  return opened;
}

/** The reason why a client that trusts this authority ends its handshake; null if it does not. */
function rejection(port: number, authority: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', ca: authority, servername: '' });
    socket.on('secureConnect', () => {
      socket.destroy();
      resolve(null);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

test('rows that run side by side do not replace the certificates of each other', async () => {
  const one = await front();
  // The gateways of a row read this file when they start.
  const authority = readFileSync(AUTHORITY, 'utf8');
  await front();
  expect(await rejection(one.port, authority)).toBe(null);
  one.use('expired');
  expect(await rejection(one.port, authority)).toBe('CERT_HAS_EXPIRED');
  one.use('good');
  expect(await rejection(one.port, authority)).toBe(null);
});
