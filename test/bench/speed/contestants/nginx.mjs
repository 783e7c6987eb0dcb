import { join } from 'node:path';
import { nginxConf, startNginx } from '../nginx.mjs';
import { freePort } from '../rig.mjs';
import { ACCOUNT_KEY, KEYS } from '../work.mjs';
import { accepts } from './contestant.mjs';

/**
 * The gateway's work as far as nginx has words for it: a key opens by `map`, a rate by `limit_req`, the account's key in
 * place of the caller's, connections to the upstream kept, a cache in front of one path.
 * @param {{ folder: string, port: number, upstream: number, openFiles: boolean }} options
 */
function conf({ folder, port, upstream, openFiles }) {
  const passOn = `proxy_pass http://upstream; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "${ACCOUNT_KEY}";`;
  return nginxConf({
    folder,
    http: `
  map $http_authorization $tenant { default ""; "Bearer ${KEYS.team}" team; "Bearer ${KEYS.small}" small; }
  map $tenant $small { default ""; small small; }
  limit_req_zone $small zone=small:1m rate=1r/m;
  limit_req_zone $tenant zone=tenants:1m rate=1000000r/s;
  limit_req_status 429;
  proxy_cache_path ${folder}/cache keys_zone=answers:1m;
  ${openFiles ? 'open_file_cache max=1000 inactive=10m; open_file_cache_valid 10m;' : ''}
  upstream upstream { server 127.0.0.1:${upstream}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    if ($tenant = "") { return 401; }
    limit_req zone=small;
    limit_req zone=tenants burst=1000000 nodelay;
    location / { ${passOn} }
    location /api/v1/flows {
      ${passOn}
      proxy_cache answers; proxy_cache_valid 200 24h; proxy_cache_lock on;
    }
  }`,
  });
}

/**
 * @param {{ id: string, name: string, does: string, kinds: readonly import('../work.mjs').Kind[], openFiles: boolean }} options
 * @returns {import('./contestant.mjs').Contestant}
 */
const nginx = ({ openFiles, ...about }) => ({
  ...about,
  holdsCredential: true,
  timed: !openFiles,
  start: async ({ rig, upstream, folder }) => {
    const port = await freePort();
    const own = join(folder, 'nginx');
    const text = conf({ folder: own, port, upstream: upstream.port, openFiles });
    const running = await startNginx(rig, { on: 'proxy', folder: own, conf: text });
    return { ...running, port, ready: () => accepts(port) };
  },
});

export const plainNginx = nginx({
  id: 'nginx',
  name: 'nginx',
  does: 'key by `map`, `limit_req`, credential, `proxy_cache`; no access log',
  kinds: ['hit', 'not-modified', 'pass', 'post', 'refused', 'unknown', 'stream'],
  openFiles: false,
});

export const openFilesNginx = nginx({
  id: 'nginx-open',
  name: 'nginx, with `open_file_cache`',
  does: 'the same, and files of its cache stay open',
  kinds: ['hit'],
  openFiles: true,
});
