/** How long after the gateway gave up on a request it may still arrive: what the kernel and a proxy may hold. */
export const LATE_ARRIVAL_MS = 15_000;
