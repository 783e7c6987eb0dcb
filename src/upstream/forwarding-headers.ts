/*
 * Headers by which proxies say who asked, where, how and with which method. They end at the gateway: a caller must not choose the
 * address that Patchworks sees, nor a host, path or method other than those that its permission was checked for.
 *
 * No registry of such names exists, and every product adds some, so this is a rule on the words of a name. test/trust/forwarding-headers.test.ts
 * holds the names that are known. Names are given as CGI reads them: in lower case, with a dash for all but letters and digits.
 */

/** The parties of a connection whose address a header may give. */
const PARTY =
  'client|caller|real|remote|connecting|source|src|peer|external|internal|viewer|visitor|socket|true|trusted';

const RULES: readonly string[] = [
  // Forwarded (RFC 7239), X-Forwarded-Host, Forwarded-For, X-Original-Forwarded-For, X-Forwarder-For.
  '(?:^|-)(?:forwarded|forwarder|forward-?for)',
  // X-Real-IP, CF-Connecting-IPv6, Remote-Addr, X-ClientIP.
  `(?:^|-)(?:${PARTY}|user|proxyuser|origin|originating)?-?(?:ip|ipv4|ipv6|addr)(?:-|$)`,
  // X-Envoy-External-Address, CloudFront-Viewer-Address, X-Client-Port, X-Remote-Host.
  `(?:^|-)(?:${PARTY})-?(?:address|port|host)(?:-|$)`,
  // Client-Cert (RFC 9440), X-SSL-Client-Verify, X-ARR-ClientCert.
  '(?:^|-)(?:client-?cert|ssl-client)',
  // X-HTTP-Method-Override, X-HTTP-Host-Override, X-Override-URL.
  '(?:^|-)override(?:-|$)',
  // X-Original-URL, X-Original-Method, X-Rewrite-URL, X-HTTP-Method, X-Proxy-URL.
  '^x-(?:original|rewrite|http|proxy)-',
  '^(?:via|proxy|proxy-host|proxy-url|request-uri|front-end-https)$',
  '^x-(?:host|method|scheme|url|uri|url-scheme|request-uri|https|coming-from)$',
  // Prefixes that products keep for themselves.
  '^(?:cf|fastly|fly|cloudfront|akamai|incap|wl-proxy|ali-cdn|cdn-src)-',
  '^x-(?:envoy|azure|appengine|arr|nf|vercel|akamai|sucuri|amz-cf)-',
];

const FORWARDING = new RegExp(RULES.join('|'));

/** @param name in lower case, with a dash for all but letters and digits */
export function isForwardingHeader(name: string): boolean {
  return FORWARDING.test(name);
}
