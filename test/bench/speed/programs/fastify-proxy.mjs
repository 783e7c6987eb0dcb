// fastify with @fastify/http-proxy, set up as its own documentation does. `node fastify-proxy.mjs PORT ORIGIN`
import proxy from '@fastify/http-proxy';
import Fastify from 'fastify';

const [port, upstream = ''] = process.argv.slice(2);
const app = Fastify({ logger: false });
await app.register(proxy, { upstream });
await app.listen({ port: Number(port), host: '127.0.0.1', backlog: 4_096 });
