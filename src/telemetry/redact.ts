/** Replaces every known secret in a text, whatever encoding it has got into. */
export interface Redactor {
  /** A secret of the configuration: kept for good. */
  add(secret: string): void;
  /** A token that will be replaced: the latest few are kept. */
  addPassing(secret: string): void;
  apply(text: string): string;
}

const MASK = '[secret]';
/** Tokens of the latest logins; older ones have expired. */
const PASSING = 32;
/** A shorter value would mask ordinary words; the load warns about secrets that short. */
const SHORTEST = 6;
const JSON_LAYERS = 4;

export function createRedactor(): Redactor {
  const kept = new Set<string>();
  let passing: string[] = [];
  let pattern: RegExp | null = null;

  const rebuild = (): void => {
    const forms = new Set([...kept, ...passing].flatMap(formsOf));
    // Longest first: of two secrets that begin alike, the longer must be masked whole.
    const sorted = [...forms].sort((a, b) => b.length - a.length);
    pattern = sorted.length === 0 ? null : new RegExp(sorted.map(literal).join('|'), 'g');
  };

  return {
    add(secret) {
      if (secret.length < SHORTEST || kept.has(secret)) return;
      kept.add(secret);
      rebuild();
    },
    addPassing(secret) {
      if (secret.length < SHORTEST || passing.includes(secret)) return;
      passing = [secret, ...passing].slice(0, PASSING);
      rebuild();
    },
    apply: (text) => (pattern === null ? text : text.replace(pattern, MASK)),
  };
}

/** The spellings in which a value turns up in JSON, URLs and headers. */
function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const json = [secret];
  // JSON in JSON, as when a body is quoted in an error that is logged: each layer escapes what the last one wrote.
  for (let layer = 0; layer < JSON_LAYERS; layer++) json.push(JSON.stringify(json.at(-1)).slice(1, -1));
  return [
    ...json,
    encodeURIComponent(secret),
    encodeURIComponent(secret).toLowerCase(),
    bytes.toString('hex'),
    bytes.toString('hex').toUpperCase(),
    ...base64Forms(bytes),
  ];
}

/**
 * Base64 of a value depends on where in a longer text it stands (as the password in `user:password`): there are three
 * alignments, and in each the first and last group also carry bits of the neighbours, so only the inner ones are searched.
 */
function base64Forms(bytes: Buffer): string[] {
  const forms: string[] = [];
  for (let shift = 0; shift < 3; shift++) {
    const encoded = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replaceAll('=', '');
    const from = shift === 0 ? 0 : 4;
    const to = (shift + bytes.length) % 3 === 0 ? encoded.length : encoded.length - 2;
    const inner = encoded.slice(from, to);
    if (inner.length >= SHORTEST) forms.push(inner, inner.replaceAll('+', '-').replaceAll('/', '_'));
  }
  return forms;
}

function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
