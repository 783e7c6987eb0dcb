import type { Settings } from '../config/model.ts';
import type { EdgeTls } from '../edge/port-server.ts';
import type { Log } from '../ports.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { same } from './same.ts';

const PORTS = ['traffic', 'admin'] as const;

/** How each port speaks to whoever connects, and who is told of it. */
export function listenerOptions(parts: {
  readonly settings: Settings;
  readonly metrics: Pick<Metrics, 'tlsHandshake'>;
  readonly log: Log;
}): Readonly<Record<(typeof PORTS)[number], EdgeTls>> {
  const { settings, metrics, log } = parts;
  const of = (port: (typeof PORTS)[number]): EdgeTls => ({
    tls: settings.listen[port].tls,
    // A caller has as long for its handshake as for its headers.
    handshakeTimeoutMs: settings.limits.headersTimeoutMs,
    onHandshake: (outcome, { address, code }) => {
      metrics.tlsHandshake(port, outcome);
      // At debug: whoever reaches the port can make as many of these as it likes.
      if (code !== null || outcome === 'certificate_rejected') {
        log.debug({ port, outcome, code, address }, 'TLS handshake failed');
      }
    },
  });
  return { traffic: of('traffic'), admin: of('admin') };
}

/** Which certificates are in use from now on, where they are others than before. */
export function tellCertificates(log: Log, before: Settings | null, now: Settings): void {
  for (const port of PORTS) {
    const certificate = now.listen[port].tls?.certificate;
    if (certificate === undefined || same(certificate, before?.listen[port].tls?.certificate)) continue;
    const { names, notAfterMs, fingerprint } = certificate;
    log.info({ port, names, until: new Date(notAfterMs).toISOString(), fingerprint }, 'certificate in use');
  }
}
