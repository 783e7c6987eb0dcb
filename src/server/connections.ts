import type { Server as HttpServer } from 'node:http';
import { Server as NetServer, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../clock.ts';
import { isSafe } from '../context.ts';
import type { Listener } from './listener.ts';

/**
 * A drain waits as long for the rest of a beginning: the first request of a connection that was just opened, the rest of a request's
 * headers, and the rest of a handshake.
 */
const BEGINNING_MS = 1_000;
/** Turns of the event loop in which a drain accepts what waits in the kernel; each accepts at least one connection. */
const MAX_LAST_TURNS = 500;
/** A connection with more requests in its queue is not read until some of them are over. */
const MAX_QUEUED = 16;

interface QueuedRequest {
  readonly safe: boolean;
  readonly start: () => void;
}

class Connection {
  readonly openedAt: number;
  /** A callback for each request whose response has not ended; several if the caller pipelines. */
  readonly active = new Set<() => void>();
  /** Requests that have not started, because of those before them. */
  readonly queue: QueuedRequest[] = [];
  running = 0;
  /** The running request may change state, so it is the only one. */
  unsafe = false;
  /** The connection is not read, because the queue is full. */
  stopped = false;
  /** Node resumes a connection whenever a request or its body has been read; this listener pauses it again. */
  guarded = false;
  /** Bytes read when the last response ended: more by now is the beginning of another request. */
  readBytes = 0;
  /** When the drain first saw that beginning. */
  beginningSeenAt: number | null = null;

  constructor(openedAt: number) {
    this.openedAt = openedAt;
  }
}

/**
 * The connections of a port. A drain ends them without cutting off a request that is just arriving.
 *
 * Only safe requests of one connection run side by side (RFC 9112 section 9.3.2): a caller that sends two writes in a
 * row means them to happen in a row. The requests of a connection that is gone never start.
 */
export class Connections {
  readonly #server: HttpServer;
  readonly #handshakes: Listener['handshakes'];
  readonly #clock: Clock;
  readonly #open = new Map<Socket, Connection>();
  #accepted = 0;
  #leaving = false;

  constructor({ server, handshakes }: Listener, clock: Clock) {
    this.#server = server;
    this.#handshakes = handshakes;
    this.#clock = clock;
    server.on('connection', (socket: Socket) => {
      this.#accepted += 1;
      if (handshakes !== null && this.#leaving) this.#endHandshake(socket);
    });
    // Over TLS, requests come on a second socket, which exists only after the handshake.
    server.on(handshakes === null ? 'connection' : 'secureConnection', (socket: Socket) => {
      const connection = new Connection(clock.monotonic());
      this.#open.set(socket, connection);
      socket.once('close', () => {
        this.#open.delete(socket);
        for (const onClose of connection.active) onClose();
      });
      if (this.#leaving) this.#endWhenQuiet(socket);
    });
  }

  /**
   * @param onClose called when the connection is gone, because Node emits `close` only for the response whose turn it was, not for
   * pipelined ones behind it
   */
  began(socket: Socket, onClose: () => void): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) setImmediate(onClose);
    else connection.active.add(onClose);
  }

  /** Calls `start` at once, or when the requests before it on this connection are over. It has begun. */
  enter(socket: Socket, method: string, start: () => void): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    connection.queue.push({ safe: isSafe(method), start });
    startNext(connection);
    if (connection.queue.length > MAX_QUEUED) stopReading(socket, connection);
  }

  /** A request that had entered is over: its response has ended, or its connection is gone. */
  ended(socket: Socket, onClose: () => void): void {
    const connection = this.#open.get(socket);
    if (connection === undefined) return;
    connection.active.delete(onClose);
    connection.readBytes = socket.bytesRead;
    connection.beginningSeenAt = null;
    connection.running -= 1;
    if (connection.running === 0) goOn(socket, connection);
    // A response that began before the drain has not asked its caller to close the connection.
    if (this.#leaving) setImmediate(() => this.#endWhenQuiet(socket));
  }

  readonly open = (): Iterable<Socket> => this.#open.keys();

  isOpen(socket: Socket): boolean {
    return this.#open.has(socket);
  }

  isActive(socket: Socket): boolean {
    return (this.#open.get(socket)?.active.size ?? 0) > 0;
  }

  /**
   * Accepts no more connections, and ends each open one when it is idle. Resolves when the last one is gone.
   *
   * `Server.close()` of node:http would cut idle connections whose next request is in the kernel and not read yet. It also takes a
   * connection that never sent anything for a busy one, so that one opened in advance by a balancer or a browser keeps the process
   * for the whole of `drain.timeout`. `close` of node:net only stops accepting.
   */
  async leave(): Promise<void> {
    for (let turn = 0, before = -1; this.#accepted > before && turn < MAX_LAST_TURNS; turn++) {
      before = this.#accepted;
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#leaving = true;
    const closed = new Promise<void>((resolve) => {
      if (this.#server.listening) NetServer.prototype.close.call(this.#server, () => resolve());
      else resolve();
    });
    for (const socket of [...this.#open.keys()]) this.#endWhenQuiet(socket);
    for (const socket of this.#handshakes?.pending() ?? []) this.#endHandshake(socket);
    await closed;
  }

  /** Called right after a poll of the event loop, so that all that has arrived has been read. */
  #endWhenQuiet(socket: Socket): void {
    const connection = this.#open.get(socket);
    if (connection === undefined || connection.active.size > 0 || socket.destroyed) return;
    const waitMs = this.#graceMs(socket, connection);
    if (waitMs <= 0) socket.destroySoon();
    else this.#clock.after(waitMs, () => setImmediate(() => this.#endWhenQuiet(socket)));
  }

  /** A handshake that succeeds in time becomes an open connection like others. */
  #endHandshake(socket: Socket): void {
    this.#clock.after(BEGINNING_MS, () => {
      if (this.#handshakes?.isPending(socket)) socket.destroy();
    });
  }

  #graceMs(socket: Socket, connection: Connection): number {
    const now = this.#clock.monotonic();
    if (socket.bytesRead === 0) return connection.openedAt + BEGINNING_MS - now;
    if (socket.bytesRead === connection.readBytes) return 0;
    connection.beginningSeenAt ??= now;
    return connection.beginningSeenAt + BEGINNING_MS - now;
  }
}

function goOn(socket: Socket, connection: Connection): void {
  connection.unsafe = false;
  // After `Connection: close` the socket can still be read for a moment, but there will be no response.
  if (socket.destroyed || !socket.writable) {
    connection.queue.length = 0;
    return;
  }
  startNext(connection);
  if (connection.stopped && connection.queue.length <= MAX_QUEUED) {
    connection.stopped = false;
    socket.resume();
  }
}

function startNext(connection: Connection): void {
  for (;;) {
    const [first] = connection.queue;
    if (first === undefined || connection.unsafe || (connection.running > 0 && !first.safe)) return;
    connection.queue.shift();
    connection.running += 1;
    connection.unsafe = !first.safe;
    first.start();
  }
}

function stopReading(socket: Socket, connection: Connection): void {
  connection.stopped = true;
  socket.pause();
  if (connection.guarded) return;
  connection.guarded = true;
  socket.on('resume', () => {
    if (connection.stopped) socket.pause();
  });
}

interface KnownCertificate {
  readonly uris: readonly string[];
  readonly notAfterMs: number;
}

const NONE: readonly string[] = [];
/** Reading a certificate costs more than a request: once for each connection. */
const known = new WeakMap<TLSSocket, KnownCertificate>();

/**
 * The URIs in the certificate of a caller, such as its SPIFFE id, until it expires. Connections whose certificate no authority of the
 * port has signed carry no request; see Handshakes.
 */
export function certificateUrisOf(socket: TLSSocket, clock: Clock): readonly string[] {
  let certificate = known.get(socket);
  if (certificate === undefined) {
    certificate = readCertificate(socket);
    known.set(socket, certificate);
  }
  return certificate.notAfterMs > clock.now() ? certificate.uris : NONE;
}

function readCertificate(socket: TLSSocket): KnownCertificate {
  const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  if (certificate === undefined) return { uris: NONE, notAfterMs: 0 };
  return { uris: urisIn(certificate.subjectAltName ?? ''), notAfterMs: Date.parse(certificate.validTo) };
}

/** Node puts a name with commas, quotes or control characters into quotes, so that it cannot look like several. */
const NAME = /(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,"]*)/gy;

/** @param names as Node writes a `subjectAltName`: `DNS:a.example, URI:spiffe://example/a` */
export function urisIn(names: string): string[] {
  const uris: string[] = [];
  for (const [, kind, value = ''] of names.matchAll(NAME))
    if (kind === 'URI' && !value.startsWith('"')) uris.push(value);
  return uris;
}
