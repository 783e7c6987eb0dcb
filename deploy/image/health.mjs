// The image's health check: whether this replica takes requests. Exit 0 or 1. No more than one question, and an answer within
// two seconds, for the engine kills a check that takes longer and says less about why.
const url = process.env['HEALTH_URL'] || 'http://127.0.0.1:9090/readyz';

try {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  const text = await response.text();
  process.stdout.write(`${response.status} ${text.slice(0, 200).trim()}\n`);
  process.exitCode = response.ok ? 0 : 1;
} catch (error) {
  // The code is in the cause: `fetch failed` alone helps nobody.
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  process.stdout.write(`${url}: ${cause instanceof Error ? cause.message : String(cause)}\n`);
  process.exitCode = 1;
}
