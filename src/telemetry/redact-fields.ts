export const MASK = '[secret]';

/**
 * Names of fields whose value is a secret, whatever it is, compared without case, `-` and `_`. It catches what is not
 * known by value: a tenant's key is known to the gateway only as a digest.
 */
const SECRET_NAME = /(?:authorization|apikey|cookie|password|passwd|passphrase|token|secret|privatekey|signature)$/;
/** A credential that got into a sentence: `Bearer …`, `Basic …`. Words that may follow in prose are shorter. */
const CREDENTIAL_IN_TEXT = /\b(Bearer|Basic)(\s+|%20)[\w.~+/=-]{8,}/gi;
/** Deeper and longer than anything logged on purpose: a log line must end. */
const DEEPEST = 8;
const LONGEST_LIST = 100;

/**
 * A copy of what is to be logged in which nothing is secret by its name, at any depth: headers as a record or as a flat
 * list, errors with cause, stack and what a library hung on them. Never throws.
 */
export function withoutSecretFields(fields: Record<string, unknown>): Record<string, unknown> {
  try {
    return record(fields, []);
  } catch (error) {
    // A getter or a toJSON that throws: a line without its fields says more than none.
    return { unloggable: error instanceof Error ? error.name : typeof error };
  }
}

export function withoutCredentials(text: string): string {
  return text.replace(CREDENTIAL_IN_TEXT, `$1$2${MASK}`);
}

function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name.toLowerCase().replace(/[-_]/g, ''));
}

function named(name: string, value: unknown, trail: readonly object[]): unknown {
  const tellsNothing = value === null || value === undefined || typeof value === 'boolean';
  return !tellsNothing && isSecretName(name) ? MASK : copy(value, trail);
}

function copy(value: unknown, trail: readonly object[]): unknown {
  if (typeof value === 'string') return withoutCredentials(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (trail.includes(value)) return '[circular]';
  if (trail.length >= DEEPEST) return '[deep]';
  const below = [...trail, value];
  if (value instanceof Error) return errorRecord(value, below);
  // As JSON a buffer would be a list of numbers, which no search for a secret finds.
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  if (value instanceof Map) return record(Object.fromEntries(value), below);
  if (value instanceof Set) return list([...value], below);
  if ('toJSON' in value && typeof value.toJSON === 'function') return copy(value.toJSON(), below);
  return Array.isArray(value) ? list(value, below) : record(value, below);
}

function record(value: object, trail: readonly object[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, named(name, each, trail)]));
}

/** A list of headers is flat, `name, value, name, value`: what follows a secret name is its value. */
function list(values: readonly unknown[], trail: readonly object[]): unknown[] {
  const copies = values.slice(0, LONGEST_LIST).map((value, i) => {
    const before = i % 2 === 1 ? values[i - 1] : undefined;
    return typeof before === 'string' ? named(before, value, trail) : copy(value, trail);
  });
  if (values.length > LONGEST_LIST) copies.push(`… ${values.length - LONGEST_LIST} more`);
  return copies;
}

/** The useful fields of an error are not enumerable: they have to be named. */
function errorRecord(error: Error, trail: readonly object[]): Record<string, unknown> {
  return {
    type: error.name,
    message: withoutCredentials(String(error.message)),
    ...record(error, trail),
    stack: withoutCredentials(String(error.stack)),
    ...(error.cause !== undefined && { cause: copy(error.cause, trail) }),
    ...(error instanceof AggregateError && { errors: list(error.errors, trail) }),
  };
}
