// The image's health check: exit 0 if this replica is ready, else 1. It asks once and gives up after two seconds, because the
// engine kills a check that takes longer and reports less about the reason.
import { get } from 'node:http';
import { get as getSecurely } from 'node:https';

const url = process.env['HEALTH_URL'] || 'http://127.0.0.1:9090/readyz';

/** @returns {Promise<{ status: number, text: string }>} */
function ask() {
  return new Promise((resolve, reject) => {
    const options = {
      signal: AbortSignal.timeout(2_000),
      // As a kubelet does: the address is in no certificate, and the request has no secret.
      rejectUnauthorized: false,
    };
    const asked = (url.startsWith('https:') ? getSecurely : get)(url, options, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (piece) => {
        text += piece;
      });
      answer.on('error', reject);
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
    });
    asked.on('error', reject);
  });
}

try {
  const { status, text } = await ask();
  process.stdout.write(`${status} ${text.slice(0, 200).trim()}\n`);
  process.exitCode = status === 200 ? 0 : 1;
} catch (error) {
  process.stdout.write(`${url}: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
