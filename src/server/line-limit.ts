import type { Clock } from '../clock.ts';
import type { Log } from '../ports.ts';

const WINDOW_MS = 60_000;

/**
 * Bounds log lines that callers can cause without limit. Lines beyond the bounds are counted, and their number is logged. The
 * returned function takes what the line is about, such as an address, and writes the line or not.
 */
export function createLineLimit(options: {
  readonly clock: Clock;
  /** Lines of one key in a minute. */
  readonly perKey: number;
  /** Lines of all keys in a minute; it bounds the keys that are remembered too. */
  readonly total: number;
  /** Called at the end of a minute in which lines were left out. */
  readonly onLeftOut: (lines: number) => void;
}): (key: string, line: () => void) => void {
  const { clock, perKey, total, onLeftOut } = options;
  const written = new Map<string, number>();
  let lines = 0;
  let leftOut = 0;
  const endWindow = (): void => {
    if (leftOut > 0) onLeftOut(leftOut);
    written.clear();
    lines = 0;
    leftOut = 0;
  };
  return (key, line) => {
    const ofKey = written.get(key) ?? 0;
    if (lines + leftOut === 0) clock.after(WINDOW_MS, endWindow);
    if (lines >= total || ofKey >= perKey) {
      leftOut += 1;
      return;
    }
    written.set(key, ofKey + 1);
    lines += 1;
    line();
  };
}

export type AddressWarnings = ReturnType<typeof createAddressWarnings>;

/** Beyond them no other peer is logged or remembered: behind a proxy of this kind there are few, and a flood is no hint. */
const MAX_PEERS = 100;

/** Lines a minute about blocked addresses: a guesser may have many. */
const BLOCKED_LINES = 20;

/** Lines about addresses, which callers can cause: the log has a bounded number of them. */
export function createAddressWarnings(options: {
  readonly log: Log;
  readonly clock: Clock;
  /** By the settings in force. */
  readonly isTrustedProxy: (address: string) => boolean;
}) {
  const { log, clock, isTrustedProxy } = options;
  const writeOnce = createLineLimit({
    ...{ clock, perKey: 1, total: BLOCKED_LINES },
    onLeftOut: (addresses) => log.warn({ addresses }, 'more addresses blocked'),
  });
  const forwarders = new Set<string>();
  const hintFor = (address: string): string => {
    if (isTrustedProxy(address)) {
      return 'it is a trusted proxy that sends no X-Forwarded-For: valid keys and tokens are still accepted from it';
    }
    return 'if it is a proxy, all its callers are rejected: list it in listen.trustedProxies';
  };
  return {
    /** An address is blocked from now on, after too many failed authentications. */
    blocked(port: 'traffic' | 'admin', address: string, forMs: number): void {
      const fields = { port, address, seconds: Math.ceil(forMs / 1000), sendsForwardedFor: forwarders.has(address) };
      writeOnce(address, () =>
        log.warn({ ...fields, hint: hintFor(address) }, 'address blocked after too many failed authentications'),
      );
    },
    /** A peer that is no trusted proxy has sent X-Forwarded-For; logged once for each. */
    untrustedForwarder(peer: string): void {
      if (forwarders.size >= MAX_PEERS || forwarders.has(peer)) return;
      forwarders.add(peer);
      const hint = 'if it is a proxy, list it in listen.trustedProxies; else all its callers count as one address';
      log.warn({ peer, hint }, 'X-Forwarded-For of a peer that is no trusted proxy is ignored');
    },
    /** Whether this address has sent X-Forwarded-For without being trusted. */
    mayBeProxy: (address: string): boolean => forwarders.has(address),
  };
}
