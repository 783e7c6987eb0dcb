import type { Settings } from '../config/settings.ts';
import type { Log } from '../ports.ts';
import type { ListenerTls } from '../server/listener.ts';
import type { Metrics } from '../telemetry/metrics.ts';

const PORTS = ['traffic', 'admin'] as const;

/** TLS settings of each port, and the counters and logs of its handshakes. */
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
      // At debug: any client that reaches the port can cause these without limit.
      if (code !== null || outcome === 'certificate_rejected') {
        log.debug({ port, outcome, code, address }, 'TLS handshake failed');
      }
    },
  });
  return { traffic: of('traffic'), admin: of('admin') };
}
