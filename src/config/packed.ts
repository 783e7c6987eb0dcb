import { Secret } from '../secret.ts';

/** Data on its way between threads, which take no classes: secrets are marked. Never written anywhere. */
export interface Packed {
  readonly packed: unknown;
}

/** No name of a configuration begins with it: see ID. */
const SECRET = '$secret';

export function pack(value: unknown): Packed {
  const marked = (each: object) => (each instanceof Secret ? { [SECRET]: each.reveal() } : undefined);
  return { packed: mapped(value, marked, new Map()) };
}

export function unpack({ packed }: Packed): unknown {
  const hidden = (each: object & { [SECRET]?: unknown }) =>
    SECRET in each ? new Secret(String(each[SECRET])) : undefined;
  return mapped(packed, hidden, new Map());
}

/** @param done what was one object in several places stays one: it is sent, kept and compared once */
function mapped(
  value: unknown,
  replaced: (each: object & { [SECRET]?: unknown }) => unknown,
  done: Map<object, unknown>,
): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const known = done.get(value);
  if (known !== undefined) return known;
  const other = replaced(value) ?? copied(value, (each) => mapped(each, replaced, done));
  done.set(value, other);
  return other;
}

function copied(value: object, map: (each: unknown) => unknown): object {
  if (Array.isArray(value)) return value.map(map);
  if (value instanceof Map) return new Map([...value].map(([key, each]) => [key, map(each)]));
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, map(each)]));
}
