// The licences that a dependency may have. Any other fails the tests until a person has read it.

/** For packages of the image: these licences require their text, and nothing that affects this project's source. */
export const IN_THE_IMAGE = ['0BSD', 'Apache-2.0', 'BlueOak-1.0.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT'];

/**
 * More licences for packages that only build and test, and are not distributed, with the reason. Written as packages write them.
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
