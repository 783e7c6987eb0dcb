import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ADMIN_HEADERS } from '../problem-response.ts';

/** The page of the admin port: one document, the same for every reader, without data. */
export interface Page {
  /** @param status 401 if the token is missing: the document asks for it. */
  respond(status: 200 | 401, headers?: Readonly<Record<string, string>>): Response;
}

/** Each module comes after those that it uses. */
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
  'actions',
  'stream',
  'main',
];

/** The modules share one scope in the page, so that their imports and exports are removed. */
const IMPORT = /^import \{[^}]*\} from '\.\/[a-z]+\.js';\n/gm;
const EXPORT = /^export (?=(async )?function |const )/gm;

/**
 * Joins the page's files to one document, so that no other path has to be readable without the token (docs/decisions/0012). The
 * policy allows this one script only, by its digest.
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
    // The icon is part of the document.
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    // The browser refuses to turn text into markup.
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
    // A request without a token gets the page only if it accepts text/html.
    Vary: 'Accept',
  };
  return { respond: (status, headers = {}) => new Response(html, { status, headers: { ...own, ...headers } }) };
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
