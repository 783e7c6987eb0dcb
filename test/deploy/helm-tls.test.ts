import type { Service } from 'kubernetes-types/core/v1.d.ts';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { renderProblems } from '../../src/config/load.ts';
import { type Chart, chart, ofKind, only } from '../support/helm.ts';
import { gatewayPod, loadedFrom, OTHERS } from '../support/helm-release.ts';
import type { ServiceMonitor } from '../support/operator-types.ts';

let built: Chart;
beforeAll(async () => {
  built = await chart();
});
afterAll(() => built[Symbol.asyncDispose]());

const PAIR = { secretName: 'pair' };
const BOTH = { tls: { traffic: PAIR, admin: PAIR }, metrics: { serviceMonitor: { enabled: true } } };

async function shape(values: object) {
  const manifests = await built.manifests('minimal', values);
  const { container } = gatewayPod(manifests);
  const probes = [container.startupProbe, container.readinessProbe, container.livenessProbe];
  const protocols = ofKind<Service>(manifests, 'Service').map(({ spec }) => spec?.ports?.[0]);
  return {
    manifests,
    probes: probes.map((probe) => probe?.httpGet?.scheme),
    protocols: Object.fromEntries(protocols.map((port) => [port?.name, port?.appProtocol])),
  };
}

describe('a port that speaks TLS', () => {
  test('has the files of its Secret, and the gateway takes them', async () => {
    const { manifests } = await shape({ tls: { traffic: { ...PAIR, clientAuth: 'required' }, admin: PAIR } });
    const loaded = await loadedFrom(manifests, OTHERS.minimal);
    if (!loaded.ok) throw new Error(renderProblems(loaded.problems));
    const { traffic, admin } = loaded.settings.listen;
    expect([traffic.tls?.clientAuth, admin.tls?.clientAuth, loaded.warnings]).toEqual(['required', 'none', []]);
    // Each Secret as a folder: what is mounted by itself would never be renewed.
    const mounts = gatewayPod(manifests).container.volumeMounts ?? [];
    expect(mounts.filter(({ name }) => name.startsWith('tls-')).map(({ subPath }) => subPath)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });

  test('without it all is as before: no volume, no scheme', async () => {
    const { manifests, probes, protocols } = await shape({});
    expect([probes, protocols]).toEqual([[undefined, undefined, undefined], { traffic: 'http', admin: 'http' }]);
    expect(gatewayPod(manifests).spec.volumes?.map(({ name }) => name)).toEqual(['config', 'secrets']);
  });

  test('is asked by probes, Prometheus and Services as it is: the admin port alone, the traffic port alone, both', async () => {
    const https = ['HTTPS', 'HTTPS', 'HTTPS'];
    const plain = [undefined, undefined, undefined];
    const [admin, traffic, both] = await Promise.all([
      shape({ tls: { admin: PAIR } }),
      shape({ tls: { traffic: PAIR } }),
      shape(BOTH),
    ]);
    expect([admin.probes, admin.protocols]).toEqual([https, { traffic: 'http', admin: 'https' }]);
    expect([traffic.probes, traffic.protocols]).toEqual([plain, { traffic: 'https', admin: 'http' }]);
    expect([both.probes, both.protocols]).toEqual([https, { traffic: 'https', admin: 'https' }]);
    const [endpoint] = only<ServiceMonitor>(both.manifests, 'ServiceMonitor').spec.endpoints;
    expect(endpoint).toMatchObject({
      scheme: 'https',
      tlsConfig: { ca: { secret: { name: 'pair', key: 'ca.crt' } }, serverName: 'pg-patchgate-admin.gateways.svc' },
    });
  });

  test('is scraped as the values say, where they do', async () => {
    const tlsConfig = { insecureSkipVerify: true };
    const { manifests } = await shape({ ...BOTH, metrics: { serviceMonitor: { enabled: true, tlsConfig } } });
    expect(only<ServiceMonitor>(manifests, 'ServiceMonitor').spec.endpoints[0]?.tlsConfig).toEqual(tlsConfig);
  });
});

describe('the chart refuses', () => {
  const cases: readonly (readonly [what: string, tls: object, message: string])[] = [
    [
      'probes that could not be answered',
      { admin: { ...PAIR, clientAuth: 'required' } },
      'tls.admin.clientAuth: the kubelet has no certificate to show',
    ],
    [
      'client certificates without a certificate of its own',
      { traffic: { clientAuth: 'required' } },
      'tls.traffic.secretName: client certificates are asked for only where the port speaks TLS',
    ],
    [
      'an authority where no certificate is asked for',
      { traffic: { ...PAIR, clientCaSecretName: 'callers' } },
      'tls.traffic.clientAuth: none asks for no certificate',
    ],
    ['a version of old', { traffic: { ...PAIR, minVersion: 'TLSv1.1' } }, "at '/tls/traffic/minVersion'"],
  ];
  test.each(cases)('%s', async (_, tls, message) => {
    const rendered = await built.render('minimal', { tls });
    expect(rendered.ok ? 'was rendered' : rendered.error).toContain(message);
  });
});
