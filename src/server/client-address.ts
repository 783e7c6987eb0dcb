import type { IncomingMessage } from 'node:http';
import ipaddr from 'ipaddr.js';

type Range = ReturnType<typeof ipaddr.parseCIDR>;

/**
 * The caller's address: the peer of the connection, or, if that is a trusted proxy, the nearest address in X-Forwarded-For that is
 * not one. Addresses left of that were written by the caller itself and are ignored.
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
 * The scheme of the caller's URL: that of the connection, or, if its peer is a trusted proxy, the first value of X-Forwarded-Proto,
 * which the proxy nearest to the caller wrote. A caller whose proxy passes on a value of its own gets the links it asked for, and
 * other callers do not. No header names the host of links: a cache in front could be made to keep links to another site.
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

/** Some proxies append the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
const WITH_PORT = /^(?:(\d+\.\d+\.\d+\.\d+):\d+|\[([^\]]+)\](?::\d+)?)$/;

/** One spelling for each address: an IPv4-mapped IPv6 address (`::ffff:10.0.0.1`, `::ffff:a00:1`) is the IPv4 address. */
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
