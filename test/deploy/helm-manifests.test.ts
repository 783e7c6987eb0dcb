import type { HorizontalPodAutoscaler } from 'kubernetes-types/autoscaling/v2.d.ts';
import type { Container, PodSpec, Service } from 'kubernetes-types/core/v1.d.ts';
import type { Ingress, NetworkPolicy } from 'kubernetes-types/networking/v1.d.ts';
import type { PodDisruptionBudget } from 'kubernetes-types/policy/v1.d.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Chart, CI, type CiFile, chart, type Manifest, ofKind, only, podsOf } from '../support/helm.ts';
import { gatewayPod, OTHERS } from '../support/helm-release.ts';
import { mountsOf, variablesOf } from '../support/kubelet.ts';
import type { HTTPRoute, ServiceMonitor } from '../support/operator-types.ts';

let built: Chart;
const releases = new Map<CiFile, readonly Manifest[]>();
const of = (file: CiFile): readonly Manifest[] => releases.get(file) ?? [];
beforeAll(async () => {
  built = await chart();
  for (const file of CI) releases.set(file, await built.manifests(file));
});
afterAll(() => built[Symbol.asyncDispose]());

type Labels = Readonly<Record<string, string>> | undefined;
const selects = (selector: Labels, labels: Labels): boolean =>
  selector !== undefined && Object.entries(selector).every(([key, value]) => labels?.[key] === value);
const portNames = (containers: readonly Container[]) =>
  containers.flatMap(({ ports = [] }) => ports.map(({ name }) => name));

describe.each(CI)('%s', (file) => {
  test('names are unique, valid and all under one name; every object says what it belongs to', () => {
    const names = of(file).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
    for (const { kind, metadata } of of(file)) {
      expect(metadata.name).toMatch(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
      if (kind !== 'ServiceAccount')
        expect(metadata.name).toMatch(file === 'everything' ? /^team-gate/ : /^pg-patchgate/);
      expect(metadata.labels).toMatchObject({
        'app.kubernetes.io/instance': 'pg',
        'app.kubernetes.io/managed-by': 'Helm',
      });
      // Where it goes is said by who installs it.
      expect(metadata.namespace).toBeUndefined();
    }
  });

  test('whatever selects pods selects one kind of them, by ports they have', () => {
    const pods = podsOf(of(file));
    const matching = (selector: Labels) => pods.filter(({ meta }) => selects(selector, meta.labels));
    for (const { owner, meta } of pods) {
      const { selector } = (owner as { spec: { selector: { matchLabels: Labels } } } & Manifest).spec;
      expect(matching(selector.matchLabels).map((each) => each.owner)).toEqual([owner]);
      expect(selects(selector.matchLabels, meta.labels)).toBe(true);
    }
    for (const { spec } of ofKind<Service>(of(file), 'Service')) {
      const [pod, ...more] = matching(spec?.selector);
      expect(more).toEqual([]);
      for (const { targetPort } of spec?.ports ?? []) expect(portNames(pod?.containers ?? [])).toContain(targetPort);
    }
    for (const { spec } of ofKind<NetworkPolicy>(of(file), 'NetworkPolicy')) {
      const [pod, ...more] = matching(spec?.podSelector.matchLabels);
      expect(more).toEqual([]);
      for (const { ports = [] } of spec?.ingress ?? [])
        for (const { port } of ports) expect(portNames(pod?.containers ?? [])).toContain(port);
    }
    for (const { spec } of ofKind<PodDisruptionBudget>(of(file), 'PodDisruptionBudget')) {
      expect(matching(spec?.selector?.matchLabels).map(({ owner }) => owner.kind)).toEqual(['Deployment']);
    }
    const [gateway] = pods.filter(({ owner }) => owner.kind === 'Deployment');
    for (const { labelSelector } of gateway?.spec.topologySpreadConstraints ?? [])
      expect(selects(labelSelector?.matchLabels, gateway?.meta.labels)).toBe(true);
  });

  test('what is referred to is there: volumes, keys, Services and their ports', () => {
    for (const { spec, containers } of podsOf(of(file))) {
      for (const container of containers) {
        mountsOf(spec, container, of(file), OTHERS[file]);
        variablesOf(container, of(file), OTHERS[file]);
        for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe]) {
          const port = probe?.httpGet?.port ?? probe?.tcpSocket?.port;
          if (port !== undefined) expect(portNames([container])).toContain(port);
        }
      }
    }
    const services = ofKind<Service>(of(file), 'Service');
    const traffic = services.find(({ spec }) => spec?.ports?.[0]?.name === 'traffic');
    for (const { spec } of ofKind<Ingress>(of(file), 'Ingress')) {
      for (const rule of spec?.rules ?? [])
        expect(rule.http?.paths.map(({ backend }) => backend.service)).toEqual([
          { name: traffic?.metadata.name, port: { name: 'traffic' } },
        ]);
    }
    for (const { spec } of ofKind<HTTPRoute>(of(file), 'HTTPRoute'))
      expect(spec.rules?.[0]?.backendRefs).toEqual([
        { name: traffic?.metadata.name, port: traffic?.spec?.ports?.[0]?.port },
      ]);
    for (const { spec } of ofKind<HorizontalPodAutoscaler>(of(file), 'HorizontalPodAutoscaler')) {
      const target = of(file).find(
        ({ kind, metadata }) => kind === spec?.scaleTargetRef.kind && metadata.name === spec.scaleTargetRef.name,
      );
      expect(target).toMatchObject({ apiVersion: spec?.scaleTargetRef.apiVersion });
      // Both would set it, in turn.
      expect(target).not.toHaveProperty('spec.replicas');
    }
  });

  test('pods keep to the "restricted" standard, write nothing to their image and have no token', () => {
    for (const { spec, containers } of podsOf(of(file))) {
      expect(violations(spec)).toEqual([]);
      expect(spec.automountServiceAccountToken).toBe(false);
      expect(spec.securityContext?.runAsUser).toBeGreaterThan(0);
      for (const { securityContext, resources } of containers) {
        expect(securityContext?.readOnlyRootFilesystem).toBe(true);
        expect(resources?.requests).toHaveProperty('memory');
        expect(resources?.limits).toHaveProperty('memory');
      }
    }
    for (const account of ofKind(of(file), 'ServiceAccount'))
      expect(account).toMatchObject({ automountServiceAccountToken: false });
  });

  test('a ServiceMonitor finds the admin Service alone, and the token it needs', () => {
    for (const { spec } of ofKind<ServiceMonitor>(of(file), 'ServiceMonitor')) {
      const found = ofKind<Service>(of(file), 'Service').filter(({ metadata }) =>
        selects(spec.selector.matchLabels, metadata.labels),
      );
      expect(found.map((service) => service.spec?.ports?.map(({ name }) => name))).toEqual([['admin']]);
      const [endpoint] = spec.endpoints;
      expect(endpoint).toMatchObject({
        port: 'admin',
        path: '/metrics',
        relabelings: [{ targetLabel: 'job', replacement: 'patchgate' }],
      });
      const secret = gatewayPod(of(file)).spec.volumes?.find(({ name }) => name === 'secrets')?.secret?.secretName;
      expect(endpoint?.authorization).toEqual({ type: 'Bearer', credentials: { name: secret, key: 'metrics-token' } });
    }
  });
});

test('embedded state is never there twice; shared state never without a replica', () => {
  expect(only(of('minimal'), 'Deployment')).toMatchObject({ spec: { replicas: 1, strategy: { type: 'Recreate' } } });
  expect(ofKind(of('minimal'), 'PodDisruptionBudget')).toEqual([]);
  for (const file of CI.slice(1)) {
    const strategy = { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } };
    expect(only(of(file), 'Deployment')).toMatchObject({ spec: { strategy } });
    expect(ofKind(of(file), 'PodDisruptionBudget')).toHaveLength(1);
  }
});

describe('a NetworkPolicy', () => {
  const policy = (file: CiFile) => ofKind<NetworkPolicy>(of(file), 'NetworkPolicy')[0]?.spec;
  const namespace = (name: string) => ({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } });

  test('lets tenants at the traffic and Prometheus at the admin port, and no client at both', () => {
    expect(policy('ha')?.ingress).toEqual([
      { ports: [{ port: 'traffic', protocol: 'TCP' }], from: [namespace('billing'), namespace('reporting')] },
      { ports: [{ port: 'admin', protocol: 'TCP' }], from: [namespace('monitoring')] },
    ]);
    // No peer would mean everybody.
    expect(policy('ingress')?.ingress?.map(({ ports }) => ports?.[0]?.port)).toEqual(['traffic']);
  });

  test('without named clients lets in its own namespace', async () => {
    const manifests = await built.manifests('minimal', { networkPolicy: { enabled: true } });
    const { spec } = only<NetworkPolicy>(manifests, 'NetworkPolicy');
    expect(spec?.ingress?.[0]?.from).toEqual([{ podSelector: {} }]);
    expect(spec?.egress?.map(({ ports }) => ports?.[0]?.port)).toEqual([53, 443]);
  });

  test('lets out to names, to Patchworks, and to Redis on the ports of the configuration', async () => {
    const out = policy('ha')?.egress ?? [];
    expect(out.map(({ ports }) => ports?.map(({ port }) => port))).toEqual([[53, 53], [443], [6380]]);
    expect(out[1]?.to?.map(({ ipBlock }) => ipBlock?.except?.includes('169.254.0.0/16') ?? false)).toEqual([
      true,
      false,
    ]);
    expect(out[2]?.to).toHaveLength(1);
    const ports = async (redis: object, networkPolicy = {}) => {
      const values = { config: { redis }, networkPolicy: { enabled: true, ...networkPolicy } };
      const { spec } = only<NetworkPolicy>(await built.manifests('minimal', values), 'NetworkPolicy');
      return spec?.egress?.[2]?.ports?.map(({ port }) => port);
    };
    expect(await ports({ url: 'redis://redis' })).toEqual([6379]);
    expect(await ports({ url: 'rediss://user:${PW:-x}@redis:7000/3' })).toEqual([7000]);
    expect(await ports({ url: '${file:/etc/redis-url}' })).toEqual([6379]);
    expect(await ports({ cluster: ['a:7000', '[fd00::1]:7001', 'b:7000'] })).toEqual([6379, 7000, 7001]);
    expect(await ports({ sentinels: ['a:26379'], name: 'm' }, { egress: { redisPorts: [6390] } })).toEqual([
      6390, 6379, 26379,
    ]);
  });

  test('of Valkey lets in the gateway alone, and nothing out', () => {
    const [gateway, valkey] = ofKind<NetworkPolicy>(of('everything'), 'NetworkPolicy').sort((a, b) =>
      a.metadata.name.localeCompare(b.metadata.name),
    );
    const pod = gatewayPod(of('everything'));
    const peer = valkey?.spec?.ingress?.[0]?.from?.[0]?.podSelector?.matchLabels;
    expect(selects(peer, pod.meta.labels)).toBe(true);
    expect(
      selects(gateway?.spec?.egress?.[2]?.to?.[0]?.podSelector?.matchLabels, valkey?.spec?.podSelector.matchLabels),
    ).toBe(true);
    expect(valkey?.spec).toMatchObject({ policyTypes: ['Ingress', 'Egress'] });
    expect(valkey?.spec).not.toHaveProperty('egress');
  });
});

test('where the platform gives out the ids, the chart sets none', async () => {
  const ids = { runAsUser: null, runAsGroup: null, fsGroup: null };
  const manifests = await built.manifests('valkey', { podSecurityContext: ids });
  expect(podsOf(of('valkey')).map(({ spec }) => spec.securityContext?.runAsUser)).toEqual([65_532, 999]);
  for (const { spec } of podsOf(manifests)) {
    expect(spec.securityContext).toEqual({
      runAsNonRoot: true,
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
    });
  }
});

test('a release with a long name keeps all names within 63 characters', async () => {
  const values = { fullnameOverride: 'a'.repeat(63) };
  for (const { metadata } of await built.manifests('everything', values))
    expect(metadata.name.length).toBeLessThanOrEqual(63);
});

/** Violations of the "restricted" Pod Security Standard, among the fields that a chart could set. */
function violations(spec: PodSpec): string[] {
  const found: string[] = [];
  const pod = spec.securityContext ?? {};
  if (pod.runAsNonRoot !== true) found.push('may run as root');
  if (pod.runAsUser === 0) found.push('runs as root');
  if (pod.seccompProfile?.type !== 'RuntimeDefault') found.push('has no seccomp profile');
  if (spec.hostNetwork || spec.hostPID || spec.hostIPC) found.push('shares namespaces of the node');
  const kinds = [
    'configMap',
    'secret',
    'projected',
    'emptyDir',
    'persistentVolumeClaim',
    'csi',
    'ephemeral',
    'downwardAPI',
  ];
  for (const volume of spec.volumes ?? [])
    if (!Object.keys(volume).every((key) => key === 'name' || kinds.includes(key))) found.push(`volume ${volume.name}`);
  for (const { name, securityContext, ports = [] } of [...spec.containers, ...(spec.initContainers ?? [])]) {
    if (securityContext?.allowPrivilegeEscalation !== false) found.push(`${name} may gain privileges`);
    if (securityContext?.privileged) found.push(`${name} is privileged`);
    if (!securityContext?.capabilities?.drop?.includes('ALL')) found.push(`${name} keeps capabilities`);
    if (securityContext?.capabilities?.add !== undefined) found.push(`${name} adds capabilities`);
    if (ports.some(({ hostPort }) => hostPort !== undefined)) found.push(`${name} takes a port of the node`);
  }
  return found;
}
