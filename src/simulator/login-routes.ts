import type { Credentials } from './credentials.ts';
import { invalid, json, message, missing, objectOf } from './result.ts';
import type { Add, Call } from './router.ts';
import type { Switches } from './switches.ts';

/** Both forms of login, and routes that are dangerous with a shared credential. */
export function addLoginRoutes(add: Add, switches: Switches, credentials: Credentials): void {
  const login = (field: string) => (call: Call) => {
    const fields = objectOf(call.body) ?? {};
    const absent = [field, 'password'].filter((name) => typeof fields[name] !== 'string');
    if (absent.length > 0) {
      return invalid(Object.fromEntries(absent.map((name) => [name, [`The ${name} field is required.`]])));
    }
    const issued = credentials.login(fields[field], fields['password']);
    if (issued === null) {
      const text = 'These credentials do not match our records.';
      return switches.loginFailure === 401 ? message(401, text) : invalid({ [field]: [text] });
    }
    return json(200, {
      message: 'You have successfully logged in.',
      token: issued.token,
      expires_in: issued.expiresIn,
    });
  };
  add('POST /fabric/api/login', login('username'), 'login');
  add('POST /api/v1/login', login('email'), 'login');
  add('GET /health', () => json(200, { status: 'ok' }), 'open');
  add('GET /api/v2/my/user', ({ identity }) =>
    json(200, { data: { id: 1, name: identity?.credential, company_id: identity?.company } }),
  );
  for (const version of ['v1', 'v2']) add(`PUT /api/${version}/companies/*/manage`, manage);
}

/** Changes the company of a credential on the server, for every caller that shares the credential. */
function manage({ segments, identity }: Call) {
  const company = Number(segments[3]);
  if (!Number.isSafeInteger(company) || company < 1) return missing('Company', segments[3]);
  if (identity !== null) identity.company = company;
  return json(200, { data: { company_id: company } });
}

/** The username of a login, for the counter. */
export function userOf(body: Buffer): unknown {
  const fields = objectOf(body);
  return fields?.['username'] ?? fields?.['email'];
}
