import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import type { CertificateSummary } from './settings.ts';

/** Content of a file, or a message that quotes nothing of it: a key may stand where a certificate belongs. */
export type FileContent<T> = ({ readonly ok: true } & T) | { readonly ok: false; readonly message: string };
export type Chain = { readonly pem: string; readonly certificates: readonly [X509Certificate, ...X509Certificate[]] };
export type Key = { readonly pem: string; readonly key: KeyObject };

/** The beginning or the end of a block. */
const MARK = /-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----/g;
const BODY = /^[A-Za-z0-9+/=\s:,-]*$/;
/** Clients refuse longer ones; OpenSSL's own limit is 100. */
const LONGEST_CHAIN = 10;
const MOST_NAMES = 20;
/** RFC 5280 section 4.2.1.12: id-kp-serverAuth, anyExtendedKeyUsage. */
const FOR_SERVERS = ['1.3.6.1.5.5.7.3.1', '2.5.29.37.0'];

/** Reads the certificate of a port and its issuers, in the order in which they are sent. */
export function readChain(text: string): FileContent<Chain> {
  const read = readCertificates(text);
  if (!read.ok) return read;
  const { certificates } = read;
  if (certificates.length > LONGEST_CHAIN) return wrong(`holds more than ${LONGEST_CHAIN} certificates`);
  for (const [index, certificate] of certificates.entries()) {
    const issuer = certificates[index + 1];
    if (issuer !== undefined && !isIssuedBy(certificate, issuer)) {
      return wrong(
        `certificate ${index + 2} has not issued certificate ${index + 1}: begin with the port's own, then its issuer, and so on`,
      );
    }
  }
  const usage = certificates[0].keyUsage as readonly string[] | undefined;
  if (usage !== undefined && !usage.some((each) => FOR_SERVERS.includes(each))) {
    return wrong('is not a server certificate: its extended key usage lists other purposes');
  }
  return read;
}

/** Reads the certificates of authorities, in any order. */
export function readAuthorities(text: string): FileContent<Chain> {
  const read = readCertificates(text);
  if (!read.ok) return read;
  const other = read.certificates.findIndex((each) => !each.ca && !isIssuedBy(each, each));
  return other === -1 ? read : wrong(`certificate ${other + 1} does not belong to a certificate authority`);
}

export function readKey(text: string): FileContent<Key> {
  const blocks = blocksOf(text).filter(({ kind }) => kind.endsWith('PRIVATE KEY'));
  const [first, second] = blocks;
  if (first === undefined) return wrong('holds no private key in PEM');
  if (second !== undefined) return wrong('holds several private keys');
  if (first.kind.startsWith('ENCRYPTED') || first.pem.includes('ENCRYPTED')) {
    return wrong('is encrypted: store the key without a passphrase');
  }
  try {
    return { ok: true, pem: first.pem, key: createPrivateKey(first.pem) };
  } catch {
    return wrong('holds a private key that cannot be read');
  }
}

export function summaryOf({ certificates }: Chain): CertificateSummary {
  const [own] = certificates;
  const names = (own.subjectAltName ?? '').split(', ').filter((name) => name !== '');
  // Clients ignore a root that is sent along.
  const checked = certificates.filter((each, index) => index === 0 || !isIssuedBy(each, each));
  return {
    names: names.slice(0, MOST_NAMES),
    notBeforeMs: Date.parse(own.validFrom),
    notAfterMs: Math.min(...checked.map((each) => Date.parse(each.validTo))),
    fingerprint: own.fingerprint256,
  };
}

function readCertificates(text: string): FileContent<Chain> {
  const found = blocksOf(text).filter(({ kind }) => kind === 'CERTIFICATE');
  const certificates: X509Certificate[] = [];
  for (const { pem } of found) {
    try {
      certificates.push(new X509Certificate(pem));
    } catch {
      return wrong(`certificate ${certificates.length + 1} cannot be read`);
    }
  }
  const [first, ...rest] = certificates;
  if (first === undefined) return wrong('holds no certificate in PEM');
  // Only the certificates: a private key in the same file must not reach a place that shows certificates.
  return { ok: true, pem: found.map(({ pem }) => `${pem}\n`).join(''), certificates: [first, ...rest] };
}

/** By its marks, each of which is looked at once: a search for the end of each beginning took 15 s for a file of 350 KiB. */
function blocksOf(text: string): { kind: string; pem: string }[] {
  const blocks: { kind: string; pem: string }[] = [];
  let begun: { readonly kind: string; readonly from: number; readonly bodyFrom: number } | null = null;
  for (const { 0: mark, 1: side, 2: kind = '', index } of text.matchAll(MARK)) {
    if (side === 'BEGIN') begun = { kind, from: index, bodyFrom: index + mark.length };
    else if (begun?.kind === kind && BODY.test(text.slice(begun.bodyFrom, index))) {
      blocks.push({ kind, pem: text.slice(begun.from, index + mark.length) });
      begun = null;
    }
  }
  return blocks;
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function wrong(message: string): { readonly ok: false; readonly message: string } {
  return { ok: false, message };
}
