// Preloaded into a gateway: SIGUSR2 stops its event loop for as long as BLOCK_MS says, as a long computation would. Asleep instead of
// busy, since the machine of the run has other things to do.
process.on('SIGUSR2', () => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(process.env['BLOCK_MS']));
});
