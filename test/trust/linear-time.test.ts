import { readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { extractKey } from '../../src/auth/authenticate.ts';
import { isAllowed } from '../../src/auth/authorise.ts';
import type { Tenant } from '../../src/auth/tenant.ts';
import { BodyMemory } from '../../src/body-memory.ts';
import { invalidFreshnessHeaders, parseDirectives, parseHttpDate } from '../../src/cache/cache-control.ts';
import { isNotModified } from '../../src/cache/cached-response.ts';
import { variantKey } from '../../src/cache/key.ts';
import { readRequestDirectives } from '../../src/cache/lookup.ts';
import type { StoredResponse } from '../../src/cache/store.ts';
import { selectingFields } from '../../src/cache/stored-headers.ts';
import { respond } from '../../src/context.ts';
import { readIdempotencyKey } from '../../src/idempotency/idempotency.ts';
import { preferredWaitMs } from '../../src/quota/rate-limit.ts';
import { canonicalise } from '../../src/routing/canonical-path.ts';
import { canonicalQuery, carriesSecret } from '../../src/routing/query.ts';
import { addressRanges } from '../../src/server/address-ranges.ts';
import { clientAddressOf, faultOf, schemeOf } from '../../src/server/request-context.ts';
import { withoutCredentials } from '../../src/telemetry/redact-fields.ts';
import { accessFields } from '../../src/telemetry/request-telemetry.ts';
import { inboundHeaders, isSentAsRead, outboundHeaders, sentValue } from '../../src/upstream/headers.ts';
import { LinkRewriter, rewriteUrl } from '../../src/upstream/link-rewriter.ts';
import { rewriteLinks } from '../../src/upstream/rewrite-links.ts';
import { finishedRequest } from '../support/finished-request.ts';
import { ManualClock } from '../support/manual-clock.ts';

/** Linear work on this many characters takes about a millisecond; quadratic work takes minutes, and the test does not end. */
const LENGTH = 100_000;
/** Far more than linear work takes on the slowest machine. */
const DEADLINE_MS = 10_000;

const PUMPS = [
  ...[
    'a',
    '0',
    ' ',
    '\t',
    '%20',
    '%2e%2f',
    '%',
    '/',
    '//',
    '\\',
    '\\"',
    '"',
    '",',
    'a,',
    ',',
    ' ,',
    ';',
    ';q=',
    '=',
    'a=',
    'a="',
    '-',
    '_',
  ],
  ...[
    '.',
    '../',
    ':',
    '::',
    '1:',
    '1.',
    '[',
    '<',
    '<>',
    '*',
    '+',
    'W/"',
    'forwarded-',
    'ip-',
    'q=0',
    'json+',
    '&',
    '\u00a0',
    '{',
    '"links":{',
  ],
];
const STARTS = ['', '/', '"', '<', 'a="', 'wait=', 'application/', 'bearer ', 'W/"', 'http://'];

describe('every regular expression of the product is linear, whatever it is given', () => {
  const src = fileURLToPath(new URL('../../src', import.meta.url));
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && !path.endsWith('.test.ts') && !path.startsWith('simulator/'),
  );
  const LITERAL =
    /(?<=[(=:,!&|?[] ?|return |\n\s*)\/(?![/*])((?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)\/([dgimsuvy]*)(?=[\s.,;:)])/g;
  const found = files.flatMap((file) =>
    [...readFileSync(join(src, file), 'utf8').matchAll(LITERAL)].map(
      (match) => [`${file}: ${match[0]}`, match[1] ?? '', match[2] ?? ''] as const,
    ),
  );

  test('and they are found', () => {
    expect(found.length).toBeGreaterThan(60);
  });

  test.each(found)('%s', (_name, source, flags) => {
    // In a context of its own, because only that can be ended.
    const run = `for (const text of texts) { const one = new RegExp(source, flags.replace('g', '')); one.exec(text); }`;
    const own = [...new Set(source.replace(/\\[nrtdwsbup]/g, '').match(/[ -~]/g) ?? [])];
    const texts = STARTS.flatMap((start) =>
      [...new Set([...own, 'a', '0', ' ', '\t', '%20', 'a=', 'a,', '\\"'])].flatMap((pump) => [
        `${start}${pump.repeat(LENGTH / pump.length)}!`,
        `${start}${pump.repeat(LENGTH / pump.length)}\n`,
      ]),
    );
    runInNewContext(run, { source, flags, texts, RegExp }, { timeout: DEADLINE_MS });
  });
});

/** Each begins as what its reader looks for, goes on for long, and then does not end as it should. */
const inputs = ['', '/', '"', 'a="', '<'].flatMap((start) =>
  PUMPS.map((pump) => `${start}${pump.repeat(LENGTH / pump.length)}!`),
);

const request = (name: string, value: string) => ({
  rawHeaders: [name, value, name, value],
  headers: { [name]: value },
});
const incoming = (name: string, value: string) =>
  ({
    method: 'GET',
    url: '/',
    httpVersion: '1.1',
    socket: { remoteAddress: '10.0.0.1' },
    rawHeaders: [name, value],
    headers: { host: 'x', [name]: value },
  }) as unknown as IncomingMessage;
const tenant = { allow: null } as unknown as Tenant;
const trusted = ['10.0.0.0/8'];
const stored = { status: 200, headers: ['ETag', '"a"'], generatedEtag: null } as unknown as StoredResponse;
const bases = { origins: ['http://core.test'], base: 'http://gw' };
const route = { rewriteLinks: true };
const rewritten = (name: string, value: string) =>
  rewriteLinks({ origins: bases.origins, bodyMemory: new BodyMemory(1_000_000, new ManualClock()) })(async () =>
    respond(200, [name, value], Buffer.from('{}')),
  )({
    route,
    segments: [],
    baseUrl: bases.base,
  } as never);

/** All that reads a part of a request or of a response before anything is sent or stored. */
const readers: readonly (readonly [string, (text: string) => unknown])[] = [
  ['the path', canonicalise],
  ['a segment that may be denied', (text) => isAllowed(tenant, 'GET', ['api', 'v1', text])],
  [
    'the path in the log',
    (text) => accessFields(finishedRequest({ target: text, internal: text }), (masked) => masked),
  ],
  ['a text in the log', withoutCredentials],
  ['the query', (text) => canonicalQuery(text)],
  ['a query that may override the method', (text) => canonicalise(`/a?${text}`)],
  ['the key', (text) => extractKey(['Authorization', text])],
  ['Host', (text) => faultOf(incoming('host', text))],
  ['Transfer-Encoding', (text) => faultOf(incoming('transfer-encoding', text))],
  ['X-Forwarded-For', (text) => clientAddressOf(addressRanges(trusted))(incoming('x-forwarded-for', text))],
  ['X-Forwarded-Proto', (text) => schemeOf(addressRanges(trusted))(incoming('x-forwarded-proto', text))],
  ['Cache-Control of a request', (text) => readRequestDirectives({ 'cache-control': text })],
  ['Pragma', (text) => readRequestDirectives({ pragma: text })],
  ['If-None-Match', (text) => isNotModified({ 'if-none-match': text }, stored)],
  ['If-Modified-Since', parseHttpDate],
  ['Prefer', preferredWaitMs],
  ['Idempotency-Key', (text) => readIdempotencyKey({ method: 'POST', rawHeaders: ['Idempotency-Key', text] })],
  ['Accept', (text) => sentValue({ headers: { accept: text }, route, segments: [] }, 'accept')],
  [
    'a field of the key',
    (text) =>
      variantKey('k', ['accept-language', 'x-list'], {
        headers: { 'accept-language': text, 'x-list': text },
        route,
        segments: [],
      }),
  ],
  ['Connection', (text) => isSentAsRead(request('connection', text))],
  ['the name of a field', (text) => isSentAsRead(request(text, 'a'))],
  [
    'the fields that are sent',
    (text) =>
      outboundHeaders(
        { rawHeaders: ['Accept', text, text, 'a'], headers: { connection: text }, requestId: 'a', route, segments: [] },
        ['a', 'a'],
        null,
      ),
  ],
  ['the fields of a response', (text) => inboundHeaders(['Connection', text, text, 'a'], true, new Set(['a']))],
  ['the names of a query', (text) => carriesSecret(text, ['patchworks_signature'])],
  ['Cache-Control of a response', parseDirectives],
  [
    'the freshness of a response',
    (text) =>
      invalidFreshnessHeaders(
        new Map([
          ['cache-control', text],
          ['age', text],
          ['date', text],
          ['expires', text],
        ]),
      ),
  ],
  ['Vary', (text) => selectingFields(new Map([['vary', text]]))],
  ['Location', (text) => rewriteUrl(text, bases)],
  ['Link', (text) => rewritten('link', text)],
  ['Content-Type', (text) => rewritten('content-type', text)],
  ['a body', (text) => new LinkRewriter(bases).push(Buffer.from(text))],
  [
    'a body in pieces',
    (text) => {
      const rewriter = new LinkRewriter(bases);
      for (let at = 0; at < text.length; at += 100) rewriter.push(Buffer.from(text.slice(at, at + 100)));
    },
  ],
];

describe('the work for a part of a request or response is linear in its length', () => {
  test.each(readers)('%s', { timeout: 60_000 }, async (_name, read) => {
    for (const text of inputs) {
      try {
        await read(text);
      } catch (error) {
        // A path may be no URL; an endless loop is no error.
        expect(error).toBeInstanceOf(Error);
      }
    }
  });
});
