import { Secret } from '../secret.ts';

/** Data on its way between threads, which take no classes: secrets are marked. Never written anywhere. */
export interface Packed {
  readonly packed: unknown;
}

/** No name of a configuration begins with it: see ID. */
const SECRET = '$secret';

export function pack(value: unknown): Packed {
  return { packed: mapped(value, (each) => (each instanceof Secret ? { [SECRET]: each.reveal() } : undefined)) };
}

export function unpack({ packed }: Packed): unknown {
  return mapped(packed, (each) => (SECRET in each ? new Secret(String(each[SECRET])) : undefined));
}

function mapped(value: unknown, replaced: (each: object & { [SECRET]?: unknown }) => unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const other = replaced(value);
  if (other !== undefined) return other;
  if (Array.isArray(value)) return value.map((each) => mapped(each, replaced));
  if (value instanceof Map) return new Map([...value].map(([key, each]) => [key, mapped(each, replaced)]));
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, mapped(each, replaced)]));
}
