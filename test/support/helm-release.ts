import { execFileSync } from 'node:child_process';
import { type Loaded, loadSettings } from '../../src/config/load.ts';
import { type CiFile, type Manifest, podsOf } from './helm.ts';
import { mountsOf, type Others, variablesOf } from './kubelet.ts';

const SECRETS = {
  'admin-token': 'fake-admin-token',
  'metrics-token': 'fake-metrics-token',
  'redis-password': 'fake-redis-password',
  'patchworks-api-key': 'fake-patchworks-key-primary',
  'patchworks-password': 'fake-patchworks-password',
  'tokens-2026': '0f'.repeat(32),
};

/** The content of a Secret of cert-manager, self-signed. */
const PAIR = selfSigned();

/** Kubernetes writes it into every namespace. */
const CLUSTER = { 'ca.crt': PAIR['tls.crt'] };

/** The objects that the value files of helm/patchgate/ci refer to. */
export const OTHERS: Readonly<Record<CiFile, Others>> = {
  minimal: { 'Secret pair': { ...PAIR, 'ca.crt': PAIR['tls.crt'] }, 'ConfigMap kube-root-ca.crt': CLUSTER },
  ha: { 'Secret patchgate-secrets': SECRETS },
  ingress: {
    'Secret patchgate-secrets': SECRETS,
    'Secret redis': { password: 'fake-redis-password' },
    'Secret redis-ca': { 'ca.crt': 'fake certificate' },
    'ConfigMap patchgate-tenants': { 'tenants.yaml': 'tenants: { billing: { keys: [] } }', 'else.yaml': 'no: matter' },
  },
  valkey: {},
  everything: {
    'Secret gate-tls': PAIR,
    'Secret gate-admin-tls': PAIR,
    'Secret callers': { 'ca.crt': PAIR['tls.crt'] },
    'ConfigMap kube-root-ca.crt': CLUSTER,
  },
};

/** The pod of the gateway. */
export function gatewayPod(manifests: readonly Manifest[]) {
  const pod = podsOf(manifests).find(({ owner }) => owner.kind === 'Deployment');
  const container = pod?.containers[0];
  if (pod === undefined || container === undefined) throw new Error('there is no pod of the gateway');
  return { ...pod, container };
}

/** Loads the configuration of a release from the files and variables of its pod. */
export function loadedFrom(manifests: readonly Manifest[], others: Others): Promise<Loaded> {
  const { spec, container } = gatewayPod(manifests);
  const files = new Map<string, string>(
    mountsOf(spec, container, manifests, others).flatMap(({ path, files }) =>
      [...files].map(([name, content]) => [`${path}/${name}`, content] as const),
    ),
  );
  return loadSettings({
    path: '/etc/patchgate/gateway.yaml',
    env: variablesOf(container, manifests, others),
    readFile: async (path) => {
      const content = files.get(path);
      if (content === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' });
      return content;
    },
  });
}

function selfSigned(): { readonly 'tls.crt': string; readonly 'tls.key': string } {
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', '-'];
  const names = ['-subj', '/CN=gate', '-addext', 'subjectAltName=DNS:gate.example.test'];
  const text = execFileSync('openssl', ['req', '-x509', '-days', '100', ...newKey, ...names], {
    stdio: 'pipe',
  }).toString();
  const block = (kind: string) =>
    new RegExp(`-----BEGIN ${kind}-----[^-]+-----END ${kind}-----\n`).exec(text)?.[0] ?? '';
  return { 'tls.crt': block('CERTIFICATE'), 'tls.key': block('PRIVATE KEY') };
}
