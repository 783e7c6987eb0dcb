/** A value that must not appear, and its name in test messages. */
export interface Canary {
  readonly name: string;
  readonly value: string;
}

/** Forms of a value that can be read back: plain, encoded, escaped, in another case, reversed. */
export function writtenForms(value: string): Map<string, string> {
  const bytes = Buffer.from(value);
  const json = JSON.stringify(value).slice(1, -1);
  const forms = new Map<string, string>([
    ['as it is', value],
    ['in small letters', value.toLowerCase()],
    ['in capitals', value.toUpperCase()],
    ['backwards', [...value].reverse().join('')],
    ['JSON', json],
    ['JSON in JSON', JSON.stringify(json).slice(1, -1)],
    ['JSON of PHP', json.replaceAll('/', '\\/')],
    ['URL', encodeURIComponent(value)],
    ['URL in small letters', encodeURIComponent(value).replace(/%../g, (octet) => octet.toLowerCase())],
    ['form', new URLSearchParams([['', value]]).toString().slice(1)],
    ['hex', bytes.toString('hex')],
    ['HEX', bytes.toString('hex').toUpperCase()],
    ['a list of bytes', [...bytes].join(',')],
    ['latin1', bytes.toString('latin1')],
  ]);
  for (const shift of [0, 1, 2]) {
    // The outermost digits carry bits of the neighbours.
    const whole = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
    const inner = whole.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6));
    forms.set(`base64, ${shift} bytes in`, inner);
    forms.set(`base64url, ${shift} bytes in`, inner.replaceAll('+', '-').replaceAll('/', '_'));
  }
  return forms;
}

/** Describes each canary that was found: its name, its form, and the text before it. */
export function sightings(text: string, canaries: readonly Canary[]): string[] {
  return canaries.flatMap(({ name, value }) =>
    [...writtenForms(value)].flatMap(([form, written]) => {
      const at = text.indexOf(written);
      return at === -1 ? [] : [`${name}, ${form}: …${text.slice(Math.max(0, at - 80), at)}<here>`];
    }),
  );
}
