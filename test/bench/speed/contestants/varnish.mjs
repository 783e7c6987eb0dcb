import { existsSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { freePort } from '../rig.mjs';
import { ACCOUNT_KEY, KEYS } from '../work.mjs';
import { accepts } from './contestant.mjs';

/** @param {number} upstream */
const vcl = (upstream) => `vcl 4.1;
backend upstream { .host = "127.0.0.1"; .port = "${upstream}"; }
sub vcl_recv {
  if (req.http.Authorization != "Bearer ${KEYS.team}" && req.http.Authorization != "Bearer ${KEYS.small}") {
    return (synth(401));
  }
  set req.http.Authorization = "${ACCOUNT_KEY}";
  if (req.method == "GET" && req.url ~ "^/api/v1/flows") { return (hash); }
  return (pass);
}
sub vcl_backend_response {
  if (!bereq.uncacheable) { set beresp.ttl = 24h; }
  return (deliver);
}
`;

/** It has C made of its configuration. @param {NodeJS.ProcessEnv} env */
export const hasCompiler = (env) =>
  (env['PATH'] ?? '').split(delimiter).some((folder) => ['gcc', 'cc'].some((name) => existsSync(join(folder, name))));

/** @type {import('./contestant.mjs').Contestant} */
export const varnish = {
  id: 'varnish',
  name: 'Varnish',
  does: 'key in VCL, credential, its cache; limits nothing (that needs a module)',
  kinds: ['hit', 'not-modified', 'pass', 'post', 'unknown'],
  holdsCredential: true,
  start: async ({ rig, upstream, folder }) => {
    const port = await freePort();
    const path = join(folder, 'default.vcl');
    writeFileSync(path, vcl(upstream.port));
    const name = join(folder, 'varnish');
    const limits = ['-p', 'thread_pools=1', '-p', 'thread_pool_min=50', '-p', 'thread_pool_max=200'];
    // -j none: no other user to become; -F: stays in the foreground.
    const args = [
      '-j',
      'none',
      '-F',
      '-n',
      name,
      '-a',
      `127.0.0.1:${port}`,
      '-f',
      path,
      '-s',
      'malloc,64m',
      '-T',
      'none',
    ];
    const running = rig.start('proxy', 'varnishd', [
      ...args,
      '-p',
      'cc_command=exec gcc -O2 -fpic -shared -Wl,-x -o %o %s',
      ...limits,
    ]);
    return { ...running, port, ready: () => accepts(port) };
  },
};
