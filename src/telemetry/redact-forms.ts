/**
 * A secret this short is masked only where it stands alone: within words it would mask everything, and show by the gaps
 * what it is. Nothing can be done for it in base64 or hex.
 */
const SHORT = 6;

/** The spellings of a secret in a log line: plain and encoded. */
export interface SecretForms {
  readonly anywhere: readonly string[];
  /** Only where no letter or digit is beside it. */
  readonly alone: readonly string[];
}

/** @param secret not empty */
export function secretForms(secret: string): SecretForms {
  const text = [...new Set(textForms(secret))];
  if (secret.length < SHORT) return { anywhere: [], alone: text };
  return { anywhere: [...new Set([...text, ...byteForms(Buffer.from(secret))])], alone: [] };
}

/** The spellings in text: plain, JSON, JSON in JSON (a body quoted in an error), URLs and forms. */
function textForms(secret: string): string[] {
  const plain = [quoted(secret), ascii(quoted(secret))];
  const json = [secret, ...plain, ...plain.map(slashed)];
  const url = [encodeURIComponent(wellFormed(secret)), percentEncodedLikeForms(secret)];
  return [
    ...nested(json),
    ...url,
    // The hex digits of an escape may be of either case, and nothing else of the value may.
    ...url.map((form) => form.replace(/%[0-9A-F]{2}/g, (octet) => octet.toLowerCase())),
  ];
}

/** JSON in JSON, as when a body is quoted in an error that is logged: each layer escapes what the last one wrote. */
const LAYERS = 4;

function nested(forms: readonly string[]): string[] {
  const layers: string[][] = [[...forms]];
  for (let layer = 1; layer < LAYERS; layer++) layers.push((layers.at(-1) ?? []).map(quoted));
  return layers.flat();
}

function quoted(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** As PHP writes JSON, which is what Patchworks runs on: `\/`. */
function slashed(json: string): string {
  return json.replaceAll('/', '\\/');
}

/** Also as PHP writes JSON: nothing beyond ASCII. */
function ascii(json: string): string {
  return json.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A lone surrogate makes encodeURIComponent throw; such a value cannot get into a URL whole. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString();
}

function percentEncodedLikeForms(secret: string): string {
  return new URLSearchParams([['', secret]]).toString().slice(1);
}

function byteForms(bytes: Buffer): string[] {
  const hex = bytes.toString('hex');
  return [hex, hex.toUpperCase(), ...base64Forms(bytes)];
}

/**
 * Base64 of a value depends on where in a longer text it stands (as the password in `user:password`): there are three
 * alignments, and in each the outermost digits carry bits of the neighbours too, so only the digits that are the
 * value's alone are searched.
 */
function base64Forms(bytes: Buffer): string[] {
  const forms: string[] = [];
  for (let shift = 0; shift < 3; shift++) {
    const encoded = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
    const inner = encoded.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6));
    forms.push(
      inner,
      inner.replaceAll('+', '-').replaceAll('/', '_'),
      inner.replaceAll('/', '\\/'),
      inner.replaceAll('/', '\\\\/'),
    );
  }
  return forms;
}
