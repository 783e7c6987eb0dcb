import { connect } from 'node:net';

export interface RawResponse {
  readonly status: number;
  /** Lower-case names; repeated ones joined with a comma. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Everything that came, as latin1. */
  readonly text: string;
}

/** Sends bytes on a fresh connection and reads until the server closes it, or until `deadlineMs`. */
export function sendRaw(port: number, bytes: string | Buffer, deadlineMs = 5_000): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    const chunks: Buffer[] = [];
    const timer = setTimeout(() => socket.destroy(), deadlineMs);
    socket.on('connect', () => socket.write(bytes));
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      // A client closes after a complete response with `Connection: close`.
      if (isComplete(parse(Buffer.concat(chunks).toString('latin1')))) socket.end();
    });
    // A server may reset the connection after its response.
    socket.on('error', (error) => {
      if (chunks.length === 0) reject(error);
    });
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(parse(Buffer.concat(chunks).toString('latin1')));
    });
  });
}

/** A request with the headers given, `Connection: close`, and nothing a client library would add. */
export function rawRequest(line: string, headers: readonly string[] = [], body = ''): string {
  return [`${line} HTTP/1.1`, 'Host: gateway.test', 'Connection: close', ...headers, '', body].join('\r\n');
}

function isComplete(answer: RawResponse): boolean {
  const length = answer.headers['content-length'];
  return answer.headers['connection'] === 'close' && length !== undefined && answer.body.length >= Number(length);
}

function parse(text: string): RawResponse {
  const end = text.indexOf('\r\n\r\n');
  const [statusLine = '', ...lines] = text.slice(0, end === -1 ? undefined : end).split('\r\n');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return {
    status: Number(statusLine.split(' ')[1] ?? 0),
    headers,
    body: end === -1 ? '' : text.slice(end + 4),
    text,
  };
}
