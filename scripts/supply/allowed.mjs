// Which licences a dependency may have. One that is not here fails the tests until somebody has read it.

/** May be part of the image: they ask for their text to come along, and for nothing that touches our own source. */
export const IN_THE_IMAGE = ['0BSD', 'Apache-2.0', 'BlueOak-1.0.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT'];

/**
 * Besides those, for what is only used to build and test and is given to nobody; with the reason. Written as the package writes it.
 * @type {Readonly<Record<string, string>>}
 */
export const FOR_DEVELOPMENT = {
  'CC0-1.0': 'gives up all rights',
  'MIT AND Zlib': 'both ask for their text alone',
  'MIT OR Apache-2.0': 'taken under MIT',
  'MIT OR GPL-3.0-or-later': 'taken under MIT',
  'MPL-2.0': 'asks for the source of files that were changed and given on; none is either',
};

/** `(MIT OR Apache-2.0)` and `MIT OR Apache-2.0` are one. @param {string | undefined} licence */
export const plain = (licence) => (licence ?? 'none').replace(/^\((.*)\)$/, '$1');
