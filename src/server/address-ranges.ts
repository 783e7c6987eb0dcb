import ipaddr from 'ipaddr.js';
import type { AddressRanges } from '../auth/tenant.ts';

type Range = ReturnType<typeof ipaddr.parseCIDR>;

/**
 * The ranges of trusted proxies, or those from which a key may be used. An IPv4 address may be written as an IPv6 address that maps it,
 * also in a range.
 *
 * @param cidrs validated when the configuration was loaded
 */
export function addressRanges(cidrs: readonly string[]): AddressRanges {
  const ranges = cidrs.map((cidr) => withoutMapping(ipaddr.parseCIDR(cidr)));
  return {
    cidrs,
    includes(address) {
      if (ranges.length === 0 || !ipaddr.isValid(address)) return false;
      const parsed = ipaddr.process(address);
      return ranges.some((range) => parsed.kind() === range[0].kind() && parsed.match(range));
    },
  };
}

/** `::ffff:10.0.0.0/104` is `10.0.0.0/8`. */
function withoutMapping(range: Range): Range {
  const [address, bits] = range;
  if (!(address instanceof ipaddr.IPv6) || !address.isIPv4MappedAddress() || bits < 96) return range;
  return [address.toIPv4Address(), bits - 96];
}
