// Loaded into a gateway's process before its program: a file named `hung` is on a file system that never answers.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { open } = fs.promises;
/** @param {any[]} args */
fs.promises.open = (...args) => {
  if (!String(args[0]).endsWith('/hung')) return open(.../** @type {Parameters<typeof open>} */ (args));
  // As a read that is under way does, it keeps the process.
  setInterval(() => {}, 1_000);
  return new Promise(() => {});
};
syncBuiltinESMExports();
