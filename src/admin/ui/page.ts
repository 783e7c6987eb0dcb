import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ADMIN_HEADERS } from '../problem-response.ts';

/** The page on the admin port: one document, the same for everybody and with no data in it. */
export interface Page {
  /** @param status 401 where the token is missing: the document asks for it. */
  answer(status: 200 | 401, headers?: Readonly<Record<string, string>>): Response;
}

/** In an order in which each stands below what it uses. */
const MODULES = [
  'format',
  'frames',
  'alerts',
  'sparkline',
  'dom',
  'chart',
  'accounts',
  'tenants',
  'summary',
  'stream',
  'main',
];

/** Where one of the modules takes something from another: they share a scope in the page. */
const IMPORT = /^import \{[^}]*\} from '\.\/[a-z]+\.js';\n/gm;
const EXPORT = /^export (?=(async )?function |const )/gm;

/**
 * Reads the page's files and puts them into one document, so that nothing else has to be reachable without the token
 * (docs/decisions/0012). Nothing runs in it but this one script, by its digest.
 */
export function composePage(): Page {
  const script = MODULES.map((name) => asPart(read(`${name}.js`))).join('\n');
  if (/^\s*(import|export)\b/m.test(script)) throw new Error('a module of the page imports or exports in another way');
  const style = read('page.css');
  const html = read('page.html')
    .replace('<style></style>', () => `<style>${style}</style>`)
    .replace('<script type="module"></script>', () => `<script type="module">${script}</script>`);
  const policy = [
    "default-src 'none'",
    `script-src ${digest(script)}`,
    `style-src ${digest(style)}`,
    "connect-src 'self'",
    // The icon, which stands in the document.
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    // No text becomes markup: a browser refuses what would.
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ');
  const own = {
    ...ADMIN_HEADERS,
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': policy,
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    // With and without text/html a request without a token is answered differently.
    Vary: 'Accept',
  };
  return { answer: (status, headers = {}) => new Response(html, { status, headers: { ...own, ...headers } }) };
}

function read(name: string): string {
  return readFileSync(new URL(`./browser/${name}`, import.meta.url), 'utf8');
}

function asPart(text: string): string {
  return text.replace(IMPORT, '').replace(EXPORT, '');
}

function digest(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
