/**
 * Whether an error says that nothing was sent: nobody listens any more. Between the last look of a process at who has come and the
 * end of its listening the kernel may have taken somebody in, whose attempt to connect it then ends with a reset.
 */
export const neverConnected = (error: Error & { readonly syscall?: unknown }): boolean => error.syscall === 'connect';
