import type { TLSSocket } from 'node:tls';
import type { Clock } from '../clock.ts';

interface KnownCertificate {
  readonly uris: readonly string[];
  readonly notAfterMs: number;
}

const NONE: readonly string[] = [];
/** Reading a certificate costs more than a request: once for each connection. */
const known = new WeakMap<TLSSocket, KnownCertificate>();

/**
 * The URIs in the certificate of a caller, such as its SPIFFE id, until it expires. Connections whose certificate no authority of the
 * port has signed carry no request; see Handshakes.
 */
export function certificateUrisOf(socket: TLSSocket, clock: Clock): readonly string[] {
  let certificate = known.get(socket);
  if (certificate === undefined) {
    certificate = readCertificate(socket);
    known.set(socket, certificate);
  }
  return certificate.notAfterMs > clock.now() ? certificate.uris : NONE;
}

function readCertificate(socket: TLSSocket): KnownCertificate {
  const certificate = socket.authorized ? socket.getPeerX509Certificate() : undefined;
  if (certificate === undefined) return { uris: NONE, notAfterMs: 0 };
  return { uris: urisIn(certificate.subjectAltName ?? ''), notAfterMs: Date.parse(certificate.validTo) };
}

/** Node puts a name with commas, quotes or control characters into quotes, so that it cannot look like several. */
const NAME = /(?:^|, )([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,"]*)/gy;

/** @param names as Node writes a `subjectAltName`: `DNS:a.example, URI:spiffe://example/a` */
export function urisIn(names: string): string[] {
  const uris: string[] = [];
  for (const [, kind, value = ''] of names.matchAll(NAME))
    if (kind === 'URI' && !value.startsWith('"')) uris.push(value);
  return uris;
}
