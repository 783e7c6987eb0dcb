import { join } from 'node:path';
import { nginxConf, startNginx } from '../nginx.mjs';
import { freePort } from '../rig.mjs';
import { ACCOUNT_KEY, TENANT_KEY } from '../work.mjs';
import { accepts } from './contestant.mjs';

/**
 * The gateway's work as far as nginx has words for it: a key opens by `map`, a rate by `limit_req`, the account's key in
 * place of the caller's, connections to the upstream kept, a cache in front of one path.
 * @param {{ folder: string, port: number, upstream: number }} options
 */
function conf({ folder, port, upstream }) {
  const passOn = `proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "${ACCOUNT_KEY}";`;
  return nginxConf({
    folder,
    http: `
  map $http_authorization $tenant { default ""; "Bearer ${TENANT_KEY}" team; }
  limit_req_zone $tenant zone=tenants:1m rate=1000000r/s;
  proxy_cache_path ${folder}/cache keys_zone=answers:1m;
  upstream upstream { server 127.0.0.1:${upstream}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    if ($tenant = "") { return 401; }
    limit_req zone=tenants burst=1000000 nodelay;
    location / { ${passOn} }
    location /api/v1/flows {
      ${passOn}
      proxy_cache answers; proxy_cache_valid 200 24h; proxy_cache_lock on;
    }
  }`,
  });
}

/** @type {import('./contestant.mjs').Contestant} */
export const nginx = {
  id: 'nginx',
  name: 'nginx',
  does: 'key by `map`, `limit_req`, credential, `proxy_cache`; no access log',
  kinds: ['hit', 'pass', 'post', 'stream'],
  holdsCredential: true,
  start: async ({ rig, upstream, folder }) => {
    const port = await freePort();
    const own = join(folder, 'nginx');
    const text = conf({ folder: own, port, upstream: upstream.port });
    const running = await startNginx(rig, { on: 'proxy', folder: own, conf: text });
    return { ...running, port, ready: () => accepts(port) };
  },
};
