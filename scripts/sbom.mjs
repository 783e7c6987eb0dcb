// Writes dist/sbom.cdx.json. After a build, which empties dist.
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { sbom } from './supply/sbom.mjs';

const file = 'dist/sbom.cdx.json';
mkdirSync(fileURLToPath(new URL('../dist', import.meta.url)), { recursive: true });
writeFileSync(fileURLToPath(new URL(`../${file}`, import.meta.url)), sbom());
console.log(file);
