import type { IncomingMessage } from 'node:http';
import ipaddr from 'ipaddr.js';

type Range = ReturnType<typeof ipaddr.parseCIDR>;

/**
 * Who is calling: the peer of the connection, or, where that peer is a trusted proxy, the nearest address in
 * X-Forwarded-For that is not one. Anything left of that was written by the caller itself and counts for nothing.
 *
 * @param trustedProxies CIDRs; validated when the configuration was loaded
 */
export function clientAddressOf(trustedProxies: readonly string[]): (incoming: IncomingMessage) => string {
  const ranges = rangesOf(trustedProxies);
  return (incoming) => {
    const peer = normalise(incoming.socket.remoteAddress ?? '');
    if (ranges.length === 0 || !isTrusted(peer, ranges)) return peer;
    const forwarded = incoming.headers['x-forwarded-for'];
    if (typeof forwarded !== 'string') return peer;
    const hops = forwarded.split(',').map((hop) => normalise(hop.trim()));
    for (const hop of hops.reverse()) {
      if (!ipaddr.isValid(hop)) return peer;
      if (!isTrusted(hop, ranges)) return hop;
    }
    return peer;
  };
}

/**
 * Whether the caller came by http or https: as the connection is, or, where its peer is a trusted proxy, as X-Forwarded-Proto
 * says. Of several values the first is that of the proxy nearest to the caller. A caller whose proxy passes on what it wrote
 * itself gets links of its own choice, and nobody else does; a host to lead to is taken from no such header, or a cache in
 * front could be made to keep links that lead elsewhere.
 */
export function schemeOf(trustedProxies: readonly string[]): (incoming: IncomingMessage) => 'http' | 'https' {
  const ranges = rangesOf(trustedProxies);
  return (incoming) => {
    const own = 'encrypted' in incoming.socket ? 'https' : 'http';
    if (ranges.length === 0) return own;
    const forwarded = incoming.headers['x-forwarded-proto'];
    if (typeof forwarded !== 'string' || !isTrusted(normalise(incoming.socket.remoteAddress ?? ''), ranges)) return own;
    const first = forwarded.split(',', 1)[0]?.trim().toLowerCase();
    return first === 'http' || first === 'https' ? first : own;
  };
}

function rangesOf(trustedProxies: readonly string[]): Range[] {
  return trustedProxies.map((cidr) => ipaddr.parseCIDR(cidr));
}

/** Some proxies write the port as well: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
const WITH_PORT = /^(?:(\d+\.\d+\.\d+\.\d+):\d+|\[([^\]]+)\](?::\d+)?)$/;

/** One caller must not have two names: IPv4 in IPv6 clothing (`::ffff:10.0.0.1`, `::ffff:a00:1`) is the IPv4 address. */
function normalise(written: string): string {
  if (!written.includes(':')) return written;
  const [, v4, v6] = WITH_PORT.exec(written) ?? [];
  const address = v4 ?? v6 ?? written;
  if (!address.includes(':') || !ipaddr.isValid(address)) return address;
  return ipaddr.process(address).toString();
}

function isTrusted(address: string, ranges: readonly Range[]): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  return ranges.some((range) => parsed.kind() === range[0].kind() && parsed.match(range));
}
