// Sentinels and the nodes of a Cluster tell their callers where to go. So that a caller goes there by its own wires too, ports in
// what they say are put in place of others with as many digits: no length in the protocol changes.
import { connect, createServer } from 'node:net';

/** An address as Redis writes it: in a redirect, in a message, and in replies of RESP 2 and 3. */
const ADDRESS = /(127\.0\.0\.1(?::| |,|\r\n:|\r\n\$5\r\n|\r\n\$4\r\nport\r\n\$5\r\n))(\d{5})(?!\d)/g;
/** @param {Buffer} chunk @param {ReadonlyMap<number, number>} ports */
export function translated(chunk, ports) {
  const text = chunk.toString('latin1');
  const changed = text.replace(ADDRESS, (all, before, port) => {
    const other = ports.get(Number(port));
    return other === undefined ? all : `${before}${other}`;
  });
  return changed === text ? chunk : Buffer.from(changed, 'latin1');
}

/** @param {number} to @param {ReadonlyMap<number, number>} ports real port → port that the caller receives */
export async function translator(to, ports) {
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set();
  const server = createServer({ noDelay: true }, (caller) => {
    const far = connect({ port: to, host: '127.0.0.1', noDelay: true });
    for (const [socket, other] of /** @type {const} */ ([
      [caller, far],
      [far, caller],
    ])) {
      sockets.add(socket);
      // A server that is killed resets its connections, and its callers must see just that.
      socket.on('error', () => other.resetAndDestroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroySoon();
      });
    }
    caller.pipe(far);
    // Replies with addresses in them are small, and each is written in one piece.
    far.on('data', (chunk) => void caller.write(translated(chunk, ports)));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(null)));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    close() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}
