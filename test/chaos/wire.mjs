// A TCP proxy that disturbs connections on request: per direction, for all connections or only new ones, while they are open.
//
//     const link = await wire(redisPort);
//     link.set({ delayMs: 200, jitterMs: 50 }, { direction: 'down' });
//     link.heal();
import { connect, createServer } from 'node:net';
import { lane } from './lane.mjs';

/** @typedef {import('./lane.mjs').Rule} Rule */
/** @typedef {import('./lane.mjs').Cut} Cut */
/** `up`: from the caller to the target. @typedef {'up' | 'down'} Direction */
/** @typedef {{ accepted: number, open: number, failed: number, resets: number, held: number, bytes: Record<Direction, number> }} Counts */
/** @typedef {{ direction?: Direction | 'both', connections?: 'all' | 'new' }} Where */
/** @typedef {ReturnType<typeof lane>} Lane */
/** @typedef {{ caller: import('node:net').Socket, target: import('node:net').Socket, lanes: Record<Direction, Lane> }} Connection */

/** Below what Linux gives to outgoing connections (32768 and up): such connections do not take a port that is closed for a while. */
const PORTS = { from: 20_000, to: 32_000 };
const REOPEN_MS = 5_000;

/** @param {number | { host?: string, port: number }} to @param {{ host?: string, port?: number }} [at] */
export async function wire(to, at = {}) {
  let target = typeof to === 'number' ? { port: to } : to;
  const host = at.host ?? '127.0.0.1';
  /** @type {Set<Connection>} */
  const living = new Set();
  /** For connections to come. @type {Record<Direction, Rule>} */
  const rules = { up: {}, down: {} };
  const counts = { accepted: 0, failed: 0, resets: 0, bytes: { up: 0, down: 0 } };

  /** @param {import('node:net').Socket} caller */
  const accept = (caller) => {
    counts.accepted += 1;
    const far = connect({ host: '127.0.0.1', ...target, allowHalfOpen: true, noDelay: true });
    caller.setNoDelay(true);
    const between = (/** @type {Direction} */ way) =>
      lane(way === 'up' ? caller : far, way === 'up' ? far : caller, {
        rule: rules[way],
        cut: (how) => cut(connection, how, way),
        passed: (bytes) => {
          counts.bytes[way] += bytes;
        },
      });
    const connection = { caller, target: far, lanes: { up: between('up'), down: between('down') } };
    living.add(connection);
    for (const each of Object.values(connection.lanes)) each.start();
    const failed = () => {
      counts.failed += 1;
    };
    far.once('error', failed).once('connect', () => far.off('error', failed));
    for (const [socket, other] of /** @type {const} */ ([
      [caller, far],
      [far, caller],
    ])) {
      // A reset, or a target that refuses: the other end sees a reset too.
      socket.on('error', () => other.resetAndDestroy());
      socket.on('close', () => {
        if (!caller.destroyed || !far.destroyed) return;
        living.delete(connection);
        for (const each of Object.values(connection.lanes)) each.stop();
      });
    }
  };
  /** @param {Connection} connection @param {Cut} how @param {Direction} direction */
  const cut = (connection, how, direction) => {
    if (how === 'end') return connection.lanes[direction].end();
    if (how === 'reset') counts.resets += 1;
    for (const each of Object.values(connection.lanes)) each.stop();
    for (const socket of [connection.caller, connection.target]) {
      if (how === 'reset') socket.resetAndDestroy();
      else socket.destroySoon();
    }
  };

  const server = createServer({ allowHalfOpen: true }, accept);
  const listen = (/** @type {number} */ port) =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, () => resolve(server.off('error', reject)));
    });
  const port = at.port ?? (await firstFree(listen));
  if (at.port !== undefined) await listen(at.port);
  const each = (/** @type {Direction | 'both'} */ direction) =>
    /** @type {Direction[]} */ (direction === 'both' ? ['up', 'down'] : [direction]);

  /** @param {Rule} rule @param {Where} [where] */
  const set = (rule, { direction = 'both', connections = 'all' } = {}) => {
    for (const way of each(direction)) {
      rules[way] = rule;
      if (connections === 'all') for (const { lanes } of living) lanes[way].set(rule);
    }
  };
  return {
    port,
    host,
    /** Replaces what the direction suffers. */
    set,
    /** Once, for what is open now. @param {Cut} how @param {Direction} [direction] whose receiver gets the FIN of an `end` */
    cut(how, direction = 'down') {
      for (const connection of living) cut(connection, how, direction);
    },
    /** Resets open connections and closes the port, so that the kernel refuses new ones. */
    refuse() {
      if (server.listening) server.close();
      this.cut('reset');
    },
    /** Open, and harmless. Connections that lost bytes are reset, those that stalled flow on. */
    async heal() {
      set({});
      const deadline = performance.now() + REOPEN_MS;
      while (!server.listening)
        await listen(port).catch((error) => {
          if (performance.now() > deadline) throw error;
          return new Promise((resolve) => setTimeout(resolve, 50));
        });
    },
    /** Where connections to come are led. @param {number | { host?: string, port: number }} to */
    aim(to) {
      target = typeof to === 'number' ? { port: to } : to;
    },
    /** @returns {Counts} */
    counts() {
      let held = 0;
      for (const { lanes } of living) held += lanes.up.held() + lanes.down.held();
      return { ...counts, bytes: { ...counts.bytes }, open: living.size, held };
    },
    async close() {
      const gone = [new Promise((resolve) => server.close(resolve))];
      for (const { caller, target, lanes } of living) {
        lanes.up.stop();
        lanes.down.stop();
        for (const socket of [caller, target]) {
          if (!socket.closed) gone.push(new Promise((resolve) => socket.once('close', resolve)));
          socket.destroy();
        }
      }
      await Promise.all(gone);
    },
  };
}

/** @param {(port: number) => Promise<unknown>} listen */
async function firstFree(listen) {
  for (let attempt = 0; ; attempt++) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    const error = await listen(port).then(
      () => null,
      (reason) => reason,
    );
    if (error === null) return port;
    if (attempt === 50 || error.code !== 'EADDRINUSE') throw error;
  }
}
