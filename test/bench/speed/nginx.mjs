// An nginx that keeps all its files in a folder of the run: the upstream, and a contestant.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

/** @param {{ folder: string, http: string }} parts */
export function nginxConf({ folder, http }) {
  // Without this line, the worker of an nginx that root starts changes to a user without access to the folder.
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  return `daemon off;
${user}
worker_processes 1;
pid ${folder}/pid;
error_log stderr crit;
events { worker_connections 8192; }
http {
  access_log off;
  server_tokens off;
  sendfile on;
  tcp_nopush on;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 3600s;
${TEMPORARY.map((name) => `  ${name}_temp_path ${folder}/${name};`).join('\n')}
${http}
}
`;
}

/**
 * @param {import('./rig.mjs').Rig} rig
 * @param {{ on: keyof import('./rig.mjs').Cores, folder: string, conf: string }} options
 */
export async function startNginx(rig, { on, folder, conf }) {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'nginx.conf');
  writeFileSync(path, conf);
  // -e: before it has read its configuration it would write where it was built to be installed.
  return rig.start(on, 'nginx', ['-p', folder, '-e', 'stderr', '-c', path]);
}
