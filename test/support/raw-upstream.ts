import { createServer, type Socket } from 'node:net';

export interface RawUpstream {
  readonly url: string;
  /** Heads of the requests that came, in order. */
  requests(): readonly string[];
  /** Connections that are open. */
  open(): number;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An upstream that answers with bytes of the test's own. `answer` is called once for each request. */
export async function rawUpstream(answer: (socket: Socket, turn: number) => void): Promise<RawUpstream> {
  const requests: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      for (let end = text.indexOf('\r\n\r\n'); end !== -1; end = text.indexOf('\r\n\r\n')) {
        requests.push(text.slice(0, end));
        // Requests here carry no body.
        text = text.slice(end + 4);
        answer(socket, requests.length);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    requests: () => requests,
    open: () => sockets.size,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
