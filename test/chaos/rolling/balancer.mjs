// Two balancers in front of gateways, as a cluster has them: one that speaks HTTP and keeps its own connections, and one that
// only joins sockets, so that callers keep theirs to one gateway. Both ask only gateways whose /readyz said yes, and neither
// tries anything twice: what a gateway loses, a caller sees.
import { Agent, createServer as createHttpServer, request } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';

const POLL_MS = 100;

/** @typedef {{ port: number, adminPort: number, stop(): Promise<number | null> }} Replica */
/** @typedef {{ replica: Replica, agent: Agent, ready: boolean, cancel: () => void }} Endpoint */

/** @param {import('node:net').Server} server @returns {Promise<number>} */
const listen = (server) =>
  new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });

/** @param {Endpoint[]} endpoints */
function roundRobin(endpoints) {
  let turn = 0;
  return () => {
    const ready = endpoints.filter((each) => each.ready);
    turn += 1;
    return ready[turn % ready.length];
  };
}

/** @param {() => Endpoint | undefined} pick */
function httpBalancer(pick) {
  return createHttpServer({ keepAliveTimeout: 60_000 }, (incoming, outgoing) => {
    const endpoint = pick();
    if (endpoint === undefined) return void outgoing.writeHead(503).end('no gateway is ready');
    const { port } = endpoint.replica;
    const { method = 'GET', url = '/', headers } = incoming;
    const sent = request({ port, method, path: url, headers, agent: endpoint.agent }, (response) => {
      const { connection: _, 'keep-alive': __, ...passed } = response.headers;
      outgoing.writeHead(response.statusCode ?? 502, passed);
      response.pipe(outgoing);
      response.on('error', () => outgoing.destroy());
    });
    sent.on('error', (/** @type {NodeJS.ErrnoException} */ error) => {
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.writeHead(502).end(error.code ?? error.message);
    });
    incoming.pipe(sent);
  });
}

/** @param {() => Endpoint | undefined} pick */
function tcpBalancer(pick) {
  return createTcpServer({ allowHalfOpen: true }, (socket) => {
    const endpoint = pick();
    if (endpoint === undefined) return void socket.destroy();
    const upstream = connect({ port: endpoint.replica.port, host: '127.0.0.1', allowHalfOpen: true });
    for (const [from, to] of /** @type {const} */ ([
      [socket, upstream],
      [upstream, socket],
    ])) {
      from.setNoDelay(true);
      from.on('error', () => to.resetAndDestroy());
      from.pipe(to);
    }
  });
}

export async function createBalancers() {
  /** @type {Endpoint[]} */
  const endpoints = [];
  const servers = [httpBalancer(roundRobin(endpoints)), tcpBalancer(roundRobin(endpoints))];
  const [httpPort = 0, tcpPort = 0] = await Promise.all(servers.map(listen));
  return {
    httpPort,
    tcpPort,
    /** Resolves when it is ready for the first time. @param {Replica} replica @returns {Promise<void>} */
    add(replica) {
      return new Promise((resolve) => {
        const poll = async () => {
          const response = await fetch(`http://127.0.0.1:${replica.adminPort}/readyz`).catch(() => null);
          endpoint.ready = response?.status === 200;
          if (endpoint.ready) resolve();
        };
        const timer = setInterval(() => void poll(), POLL_MS);
        /** @type {Endpoint} */
        const endpoint = {
          replica,
          ready: false,
          agent: new Agent({ keepAlive: true, maxFreeSockets: 256 }),
          cancel: () => clearInterval(timer),
        };
        endpoints.push(endpoint);
        void poll();
      });
    },
    /** @param {Replica} replica */
    remove(replica) {
      const index = endpoints.findIndex((each) => each.replica === replica);
      for (const { cancel, agent } of endpoints.splice(index, 1)) {
        cancel();
        agent.destroy();
      }
    },
    close() {
      for (const { replica } of [...endpoints]) this.remove(replica);
      servers[0]?.close();
      servers[1]?.close();
      /** @type {import('node:http').Server} */ (servers[0]).closeAllConnections();
    },
  };
}
