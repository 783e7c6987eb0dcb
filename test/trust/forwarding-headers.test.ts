import { describe, expect, test } from 'vitest';
import { BILLING_KEY, run } from '../support/gateway.ts';
import { rawRequest, sendRaw } from '../support/raw-http.ts';

const AUTH = `Authorization: Bearer ${BILLING_KEY}`;
const CANARY = '192.0.2.66';

/** Names under which proxies, balancers, clouds and frameworks write, or have written, who asked for what. */
const KNOWN = `
  Forwarded Forwarded-For Forwarded-For-Ip Forwarded-Host Forwarded-Proto Via Proxy Client-IP Real-IP Remote-IP Remote-Addr Remote-Host
  X-Forwarded X-Forwarded-For X-Forwarded-For-Original X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Protocol
  X-Forwarded-Scheme X-Forwarded-Server X-Forwarded-Ssl X-Forwarded-By X-Forwarded-Path X-Forwarded-Prefix X-Forwarded-Uri
  X-Forwarded-Method X-Forwarded-User X-Forwarded-Client-Cert X-Forwarder-For X-Forward-For X-ForwardedFor X-Original-Forwarded-For
  X-Real-IP X-Real-Ip-Orig X-RealIP X-Client-IP X-ClientIP X-Client-Addr X-Client-Address X-Client-Port X-Client-Host
  X-Cluster-Client-IP Cluster-Client-IP
  X-Remote-IP X-Remote-Addr X-Remote-Host X-Remote-Port X-Originating-IP X-Origin-IP X-True-IP X-True-Client-IP True-Client-IP
  X-ProxyUser-IP X-Proxy-Url Proxy-Url Proxy-Host Proxy-Client-IP WL-Proxy-Client-IP WL-Proxy-SSL X-Source-IP X-Src-Addr X-Peer-Address
  X-IP X-IP-Address X-Custom-IP-Authorization X-Coming-From X-User-IP X-External-Address
  CF-Connecting-IP CF-Connecting-IPv6 CF-Pseudo-IPv4 CF-Visitor CF-IPCountry CF-Access-Client-Secret Fastly-Client-IP Fastly-Host
  Fastly-Client Fastly-SSL Fastly-FF
  X-Azure-ClientIP X-Azure-SocketIP X-Azure-FDID X-Azure-Ref X-ARR-ClientCert X-ARR-SSL X-ARR-LOG-ID X-Envoy-External-Address
  X-Envoy-Internal X-Envoy-Original-Path X-Envoy-Original-Host X-Envoy-Peer-Metadata X-Appengine-User-IP X-Appengine-Remote-Addr
  X-Appengine-Country X-NF-Client-Connection-IP Fly-Client-IP Fly-Forwarded-Port DO-Connecting-IP X-Vercel-Forwarded-For X-Vercel-IP-Country
  CloudFront-Viewer-Address CloudFront-Forwarded-Proto X-Amz-Cf-Id Ali-CDN-Real-IP Cdn-Src-Ip Akamai-Client-IP X-Akamai-Client-IP
  Incap-Client-IP X-Sucuri-ClientIP
  X-HTTP-Method X-HTTP-Method-Override X-Method-Override X-Method X-HTTP-Host-Override X-Host X-Host-Override X-Original-Host
  X-Original-URL X-Original-URI X-Original-Path X-Original-Method X-Original-Remote-Addr X-Original-Proto X-Rewrite-URL X-Rewrite-Path
  X-Override-URL X-HTTP-DestinationURL X-Request-URI Request-Uri X-URL-Scheme X-Scheme Front-End-Https
  Client-Cert Client-Cert-Chain X-Client-Cert SSL-Client-Verify X-SSL-Client-Cert X-SSL-Client-DN
`
  .trim()
  .split(/\s+/);

/** Fields that resemble those, and that the upstream may want. */
const PASSING = `
  User-Agent Referer Origin From Accept-Language X-Client-Id X-Client-Version X-Client-Name X-Source X-Origin-Country X-Company X-Company-Id
  X-Ship-To-Address X-Address X-Zip X-Shipment X-Correlation-Id X-User X-User-Id X-Support X-Report X-Import X-Chip X-Host-Name
  X-Remote-System X-Real X-External-Id X-Amzn-Trace-Id X-Trace-Id Idempotency-Key Content-Language X-Originator X-Schema X-Httpx
`
  .trim()
  .split(/\s+/);

async function received(names: readonly string[]): Promise<string[]> {
  await using gateway = await run();
  const got: string[] = [];
  // A request has at most 100 lines.
  for (let from = 0; from < names.length; from += 50) {
    const lines = names.slice(from, from + 50).map((name) => `${name}: ${CANARY}`);
    expect((await sendRaw(gateway.port, rawRequest('GET /api/v1/flow-runs', [AUTH, ...lines]))).status).toBe(200);
  }
  for (const { headers } of gateway.simulator.arrivals()) {
    got.push(...headers.filter((_, index) => index % 2 === 0 && headers[index + 1] === CANARY));
  }
  return got;
}

describe('forwarding headers end at the gateway', () => {
  test.each([
    ['as their products spell them', (name: string) => name],
    ['with underscores', (name: string) => name.replaceAll('-', '_')],
    ['with dots', (name: string) => name.replaceAll('-', '.')],
    ['in capitals, with one underscore', (name: string) => name.toUpperCase().replace('-', '_')],
  ])('%s', async (_spelling, spell) => {
    expect(await received(KNOWN.map(spell))).toEqual([]);
  });

  test('and names that only resemble them pass', async () => {
    expect(await received(PASSING)).toEqual(PASSING);
  });
});
