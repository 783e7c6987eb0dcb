import { connect, type Socket } from 'node:net';
import { eventually } from './gateway.ts';

/** A connection of a caller that keeps to no rule. */
export interface RawSocket {
  readonly socket: Socket;
  /** All that came so far, as latin1. */
  received(): string;
  /** Status codes so far, interim ones included. */
  statuses(): number[];
  isClosed(): boolean;
  write(bytes: string | Buffer): void;
  /** Waits for a number of final answers. */
  responses(count: number): Promise<void>;
  closed(): Promise<void>;
  [Symbol.dispose](): void;
}

export async function dial(port: number): Promise<RawSocket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let text = '';
  let ended = false;
  socket.setEncoding('latin1');
  socket.on('data', (piece: string) => {
    text += piece;
  });
  socket.on('error', () => {});
  for (const event of ['end', 'close'])
    socket.on(event, () => {
      ended = true;
    });
  await eventually(() => socket.readyState === 'open', 'the connection');
  const statuses = () => [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status));
  return {
    socket,
    received: () => text,
    statuses,
    isClosed: () => ended,
    write: (bytes) => void socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes),
    responses: (count) => eventually(() => statuses().filter((status) => status >= 200).length >= count, 'answers'),
    closed: () => eventually(() => ended, 'the end of the connection'),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}
