import { createHash } from 'node:crypto';
import { Script } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { composePage } from './page.ts';

const html = await composePage().respond(200).text();
const headers = composePage().respond(200).headers;
const part = (tag: RegExp) => String(tag.exec(html)?.[1]);
const digest = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

describe('the document', () => {
  it('is allowed one script and one style, by their digests, and nothing else runs or loads', () => {
    const policy = headers.get('content-security-policy') ?? '';
    const script = part(/<script type="module">([\s\S]*?)<\/script>/);
    expect(policy).toContain(`script-src ${digest(script)};`);
    expect(policy).toContain(`style-src ${digest(part(/<style>([\s\S]*?)<\/style>/))};`);
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
    for (const own of ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"])
      expect(policy).toContain(own);
    expect(html.match(/<script|<style/g)).toHaveLength(2);
    expect(html).not.toMatch(/\bstyle="|\bon[a-z]+="|https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
  });

  it('holds a script in which no module takes the name of another', () => {
    const script = part(/<script type="module">([\s\S]*?)<\/script>/);
    // In a strict block every name is declared once, or it does not parse.
    expect(() => new Script(`'use strict'; {${script}\n}`)).not.toThrow();
    expect(script).not.toMatch(/innerHTML|outerHTML|insertAdjacent|document\.write|eval|new Function/);
  });

  it('is the same with and without a token, and says nothing of the installation', async () => {
    const refused = composePage().respond(401, { 'WWW-Authenticate': 'Bearer realm="patchgate"' });
    expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([401, 'Bearer realm="patchgate"']);
    expect(await refused.text()).toBe(html);
    expect(html).not.toMatch(/\b\d+\.\d+\.\d+\b(?!.*svg)/);
  });
});
