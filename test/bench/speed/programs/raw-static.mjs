// The least that Node can do: it builds one response and sends it to every caller. `node raw-static.mjs PORT FILE`
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const [port, file = ''] = process.argv.slice(2);
/** @type {{ status: number, headers: string[], body: string }} */
const answer = JSON.parse(readFileSync(file, 'utf8'));
const body = Buffer.from(answer.body, 'base64');

createServer({ keepAliveTimeout: 75_000 }, (_incoming, outgoing) => {
  outgoing.writeHead(answer.status, answer.headers);
  outgoing.end(body);
}).listen(Number(port), '127.0.0.1', 4_096);
