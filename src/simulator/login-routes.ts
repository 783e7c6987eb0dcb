import { invalid, json, message, missing, objectOf } from './result.ts';
import type { Call, RouteHandler, Routes } from './router.ts';

const login =
  (field: string): RouteHandler =>
  ({ body, switches, credentials }) => {
    const fields = objectOf(body) ?? {};
    const absent = [field, 'password'].filter((name) => typeof fields[name] !== 'string');
    if (absent.length > 0) {
      const errors = absent.map((name) => [name, { required: `The ${name} field is required.` }]);
      return invalid(Object.fromEntries(errors), switches);
    }
    const issued = credentials.login(fields[field], fields['password']);
    if (issued === null) {
      const text = 'These credentials do not match our records.';
      return switches.loginFailure === 401 ? message(401, text) : invalid({ [field]: { exists: text } }, switches);
    }
    return json(200, {
      message: 'You have successfully logged in.',
      token: issued.token,
      expires_in: issued.expiresIn,
    });
  };

/** All forms of login: the documented one, the one of the API's own host, and an older one. */
export const loginRoutes: Routes = {
  'POST /fabric/api/login': login('username'),
  'POST /fabric/api/v1/login': login('email'),
  'POST /api/v1/login': login('email'),
};

/** Routes of the identity service that are dangerous with a shared credential. */
export const identityRoutes: Routes = {
  'GET /api/v2/my/user': ({ identity }) =>
    json(200, { data: { id: 1, name: identity?.credential, company_id: identity?.company } }),
  'PUT /api/v1/companies/*/manage': manage,
  'PUT /api/v2/companies/*/manage': manage,
};

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
