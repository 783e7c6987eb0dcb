import { Spec, Validation } from '@cyclonedx/cyclonedx-library';
import { expect, test } from 'vitest';
import { nameAt, production, readLock, readManifest } from '../../scripts/supply/lock.mjs';
import { sbom } from '../../scripts/supply/sbom.mjs';

interface Component {
  readonly 'bom-ref': string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly type: string;
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  readonly licenses?: readonly unknown[];
}

interface Bom {
  readonly specVersion: string;
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

const text = sbom();
const bom = JSON.parse(text) as Bom;
const inTheLock = production(readLock());

test('the SBOM is valid CycloneDX, by the schema of its makers', async () => {
  expect(bom.specVersion).toBe('1.5');
  const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot5);
  expect(await validator.validate(text)).toBeNull();
  expect(await validator.validate(text.replace('"purl"', '"pearl"'))).not.toBeNull();
});

test('it is about this version of patchgate', () => {
  const { name, version } = readManifest();
  expect(bom.metadata.component).toMatchObject({
    type: 'application',
    name,
    version,
    purl: `pkg:npm/${name}@${version}`,
  });
});

test('it lists exactly what the image installs, each with the hash of the lock file and a licence', () => {
  const listed = bom.components.map(({ name, version, hashes }) => [name, version, hashes]);
  const locked = inTheLock.map(([path, { version, integrity = '' }]) => {
    const content = Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex');
    return [nameAt(path), version, [{ alg: 'SHA-512', content }]];
  });
  expect(listed.sort()).toEqual(locked.sort());
  expect(bom.components.filter(({ licenses = [] }) => licenses.length === 0)).toEqual([]);
});

test('it says which package asks for which, without a gap: each is reached from patchgate', () => {
  const asks = new Map(bom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
  const reached = new Set<string>();
  const follow = (ref: string): void => {
    if (reached.has(ref)) return;
    reached.add(ref);
    for (const each of asks.get(ref) ?? []) follow(each);
  };
  follow(bom.metadata.component['bom-ref']);
  const all = [bom.metadata.component, ...bom.components].map((component) => component['bom-ref']);
  expect([...reached].sort()).toEqual(all.sort());
});
