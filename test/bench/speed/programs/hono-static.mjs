// A bare Hono application with one answer, made once, for every request. `node hono-static.mjs PORT FILE`
import { readFileSync } from 'node:fs';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';

const [port, file = ''] = process.argv.slice(2);
/** @type {{ status: number, headers: string[], body: string }} */
const answer = JSON.parse(readFileSync(file, 'utf8'));
const body = Buffer.from(answer.body, 'base64');
/** @type {Record<string, string>} */
const headers = {};
for (let i = 0; i < answer.headers.length; i += 2) headers[answer.headers[i] ?? ''] = answer.headers[i + 1] ?? '';

const app = new Hono();
app.get('*', () => new Response(body, { status: answer.status, headers }));
serve({
  fetch: app.fetch,
  port: Number(port),
  hostname: '127.0.0.1',
  serverOptions: { keepAliveTimeout: 75_000 },
});
