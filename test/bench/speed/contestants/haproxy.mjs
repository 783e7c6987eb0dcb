import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../rig.mjs';
import { ACCOUNT_KEY, KEYS } from '../work.mjs';
import { accepts } from './contestant.mjs';

/** @param {{ port: number, upstream: number }} options */
const conf = ({ port, upstream }) => `global
  nbthread 1
  maxconn 4096
  no log
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 30s
  timeout http-keep-alive 75s
  http-reuse always
cache answers
  total-max-size 64
  max-object-size 1000000
  max-age 86400
backend small
  stick-table type string len 64 size 1k expire 60s store http_req_rate(60s)
backend tenants
  stick-table type string len 64 size 1k expire 60s store http_req_rate(1s)
frontend traffic
  bind 127.0.0.1:${port} backlog 4096
  acl known req.hdr(authorization) -m str "Bearer ${KEYS.team}" "Bearer ${KEYS.small}"
  acl small req.hdr(authorization) -m str "Bearer ${KEYS.small}"
  http-request deny deny_status 401 unless known
  http-request track-sc0 req.hdr(authorization) table small if small
  http-request track-sc1 req.hdr(authorization) table tenants
  http-request deny deny_status 429 if small { sc_http_req_rate(0) gt 1 }
  http-request deny deny_status 429 if { sc_http_req_rate(1) gt 1000000 }
  http-request set-header Authorization "${ACCOUNT_KEY}"
  use_backend listed if { path_beg /api/v1/flows }
  default_backend upstream
backend upstream
  server one 127.0.0.1:${upstream}
backend listed
  http-request del-header Authorization
  http-request cache-use answers
  http-request set-header Authorization "${ACCOUNT_KEY}"
  http-response cache-store answers
  server one 127.0.0.1:${upstream}
`;

/** @type {import('./contestant.mjs').Contestant} */
export const haproxy = {
  id: 'haproxy',
  name: 'HAProxy',
  does: 'key by `acl`, rates by stick tables, credential, its small-object cache; no log',
  kinds: ['hit', 'pass', 'post', 'refused', 'unknown', 'stream'],
  holdsCredential: true,
  timed: true,
  start: async ({ rig, upstream, folder }) => {
    const port = await freePort();
    const path = join(folder, 'haproxy.cfg');
    writeFileSync(path, conf({ port, upstream: upstream.port }));
    const running = rig.start('proxy', 'haproxy', ['-db', '-q', '-f', path]);
    return { ...running, port, ready: () => accepts(port) };
  },
};
