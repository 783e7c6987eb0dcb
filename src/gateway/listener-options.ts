import type { Settings } from '../config/settings.ts';
import type { Log } from '../ports.ts';
import type { ListenerTls } from '../server/listener.ts';
import type { Metrics } from '../telemetry/metrics.ts';

const PORTS = ['traffic', 'admin'] as const;

/** How each port speaks to whoever connects, and who is told of it. */
export function listenerOptions(parts: {
  readonly settings: Settings;
  readonly metrics: Pick<Metrics, 'tlsHandshake'>;
  readonly log: Log;
}): Readonly<Record<(typeof PORTS)[number], ListenerTls>> {
  const { settings, metrics, log } = parts;
  const of = (port: (typeof PORTS)[number]): ListenerTls => ({
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
