import { Agent, request } from 'undici';
import { MAX_JWKS_BYTES, type ReadJwks, type ReadText } from '../../auth/key-set.ts';
import type { Clock } from '../../clock.ts';
import { collectBody } from '../../read-body.ts';

interface JwksSource {
  readonly url: string;
  /** PEM; null: the authorities of the system. */
  readonly ca: string | null;
  /** Reads the bearer token for the URL; null: none is sent. Never rejects. */
  readonly readToken: (() => Promise<ReadText>) | null;
  readonly clock: Clock;
}

/** For the whole, from the name's resolution to the last byte. */
const TIMEOUT_MS = 5_000;
/** The error of a read that is no fault of the network. */
class NotUsable extends Error {}

/** Fetches a JSON Web Key Set, each time by a connection of its own: fetches are minutes apart. Follows no redirect. */
export function createJwksReader({ url, ca, readToken, clock }: JwksSource): ReadJwks {
  return async (closing) => {
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    closing.addEventListener('abort', stop, { once: true });
    const cancelTimer = clock.after(TIMEOUT_MS, stop);
    const agent = new Agent({ connect: { timeout: TIMEOUT_MS, ...(ca !== null && { ca }) }, allowH2: false });
    try {
      const token = readToken === null ? null : await readToken();
      if (token?.ok === false) return token;
      const headers = { accept: 'application/json', ...(token !== null && { authorization: `Bearer ${token.text}` }) };
      const response = await request(url, { dispatcher: agent, headers, signal: abort.signal });
      // `destroy` below ends the body of another response.
      response.body.on('error', () => {});
      if (response.statusCode !== 200) throw new NotUsable(`the server answers with status ${response.statusCode}`);
      const read = await collectBody(response.body, { limitBytes: MAX_JWKS_BYTES, hasRoom: () => true });
      if (read.kind === 'broken') throw read.error;
      if (read.kind === 'partial') throw new NotUsable(`it is larger than ${MAX_JWKS_BYTES / 1024 ** 2} MiB`);
      return { ok: true, text: read.body.toString('utf8') };
    } catch (error) {
      const late = abort.signal.aborted ? `it was not read within ${TIMEOUT_MS / 1000} s` : null;
      return { ok: false, reason: late ?? reasonOf(error) };
    } finally {
      cancelTimer();
      closing.removeEventListener('abort', stop);
      await agent.destroy();
    }
  };
}

/** By code: messages of libraries may quote what was sent. */
function reasonOf(error: unknown): string {
  if (error instanceof NotUsable) return error.message;
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'no code';
  return `the server cannot be reached or breaks off (${code})`;
}
