import { mkdir, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Container, EnvVar, PodSpec, Volume } from 'kubernetes-types/core/v1.d.ts';
import type { Manifest } from './helm.ts';

/** Objects of the namespace that a release counts on but does not make: kind and name → keys and values. */
export type Others = Readonly<Record<`${'ConfigMap' | 'Secret'} ${string}`, Readonly<Record<string, string>>>>;

export interface Mounted {
  readonly path: string;
  readonly readOnly: boolean;
  /** By path below the mount. */
  readonly files: ReadonlyMap<string, string>;
}

/** The mounted files of a container. Throws for a missing reference, as the kubelet fails. */
export function mountsOf(
  pod: PodSpec,
  container: Container,
  manifests: readonly Manifest[],
  others: Others,
): Mounted[] {
  return (container.volumeMounts ?? []).map(({ name, mountPath, readOnly = false, subPath }) => {
    if (subPath !== undefined) throw new Error(`${mountPath} is mounted by subPath: the kubelet would never update it`);
    const volume = pod.volumes?.find((each) => each.name === name);
    if (volume === undefined && !isClaimed(name, manifests))
      throw new Error(`${mountPath} is a volume that is not there: ${name}`);
    return { path: mountPath, readOnly, files: volume === undefined ? new Map() : filesOf(volume, manifests, others) };
  });
}

/** The variables of a container, as it sees them. */
export function variablesOf(
  container: Container,
  manifests: readonly Manifest[],
  others: Others,
): Record<string, string> {
  const read = ({ name, value, valueFrom }: EnvVar): string => {
    if (value !== undefined) return value;
    const { secretKeyRef, configMapKeyRef } = valueFrom ?? {};
    const [kind, ref] = secretKeyRef ? (['Secret', secretKeyRef] as const) : (['ConfigMap', configMapKeyRef] as const);
    const found = dataOf(kind, ref?.name, manifests, others).get(ref?.key ?? '');
    if (found === undefined) throw new Error(`${name} comes from a key that is not there`);
    return found;
  };
  return Object.fromEntries((container.env ?? []).map((each) => [each.name, read(each)]));
}

let swaps = 0;

/**
 * Writes files into a volume as a kubelet does: into a new directory, a link to which is renamed over the one before, which
 * is then removed. The first time, also a link for each file.
 */
export async function writeConfigMap(volume: string, files: Readonly<Record<string, string>>): Promise<void> {
  const directory = `..2026_11_26_${swaps++}`;
  const before = await readlink(join(volume, '..data')).catch(() => null);
  await mkdir(join(volume, directory), { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(join(volume, directory, name), text);
  await symlink(directory, join(volume, '..data_tmp'));
  await rename(join(volume, '..data_tmp'), join(volume, '..data'));
  if (before === null) for (const name of Object.keys(files)) await symlink(`..data/${name}`, join(volume, name));
  else await rm(join(volume, before), { recursive: true });
}

function filesOf(volume: Volume, manifests: readonly Manifest[], others: Others): Map<string, string> {
  const { configMap, secret, projected } = volume;
  const sources = projected?.sources ?? [
    { ...(configMap && { configMap }), ...(secret && { secret: { ...secret, name: secret.secretName } }) },
  ];
  return new Map(
    sources.flatMap((source) => {
      const [kind, ref] = source.secret
        ? (['Secret', source.secret] as const)
        : (['ConfigMap', source.configMap] as const);
      if (ref === undefined) return [];
      const { name, items } = ref as { name?: string; items?: { key: string; path: string }[] };
      const data = dataOf(kind, name, manifests, others);
      if (items === undefined) return [...data];
      return items.map(({ key, path }): [string, string] => {
        const content = data.get(key);
        if (content === undefined) throw new Error(`${kind} ${name} has no key ${key}`);
        return [path, content];
      });
    }),
  );
}

function dataOf(
  kind: 'ConfigMap' | 'Secret',
  name = '',
  manifests: readonly Manifest[],
  others: Others,
): Map<string, string> {
  const found = manifests.find((each) => each.kind === kind && each.metadata.name === name);
  if (found === undefined) {
    const given = others[`${kind} ${name}`];
    if (given === undefined) throw new Error(`there is no ${kind} ${name}`);
    return new Map(Object.entries(given));
  }
  const { data = {} } = found as { data?: Record<string, string> };
  const plain = (value: string) => (kind === 'Secret' ? Buffer.from(value, 'base64').toString('utf8') : value);
  return new Map(Object.entries(data).map(([key, value]) => [key, plain(value)]));
}

function isClaimed(name: string, manifests: readonly Manifest[]): boolean {
  return manifests.some((each) => {
    const { volumeClaimTemplates = [] } = (each as { spec?: { volumeClaimTemplates?: Manifest[] } }).spec ?? {};
    return volumeClaimTemplates.some((claim) => claim.metadata.name === name);
  });
}
