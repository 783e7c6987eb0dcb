/** Keeps those out who try keys. Asked for every request, so it answers from memory. */
export interface FailedAuthLimit {
  /** 0: not blocked. */
  blockedForMs(address: string): number;
  /** A key was presented that opens nothing. */
  failed(address: string): void;
}

/** Keeps a tenant from flooding the gateway itself, with requests that cost no quota: cached and refused ones. */
export interface FloodLimit {
  /** Counts a request. 0: let it pass. */
  blockedForMs(tenant: string): number;
}
