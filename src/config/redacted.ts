import type { Settings } from './model.ts';

/** The settings as GET /config shows them: what is in force, without anything that opens a door. */
export function redactedSettings(settings: Settings): unknown {
  const { secrets: _, ...shown } = settings;
  const plain = (value: unknown): unknown => {
    if (value instanceof Map) return Object.fromEntries([...value].map(([key, each]) => [key, plain(each)]));
    if (Array.isArray(value)) return value.map(plain);
    // Long, and read by no person; should a key stand where a certificate belongs, it is not shown either.
    if (typeof value === 'string' && value.startsWith('-----BEGIN ')) return '[PEM]';
    if (typeof value !== 'object' || value === null) return value;
    // A Secret prints as a mask; patterns are shown as they are written.
    if ('toJSON' in value && typeof value.toJSON === 'function') return value.toJSON();
    if ('segments' in value && 'text' in value) return value.text;
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [
        key,
        key === 'sha256' ? `${String(each).slice(0, 8)}…` : plain(each),
      ]),
    );
  };
  return plain(shown);
}
