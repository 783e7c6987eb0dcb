import { describe, expect, test } from 'vitest';
import { type Pattern, parsePattern, splitPath } from '../routing/pattern.ts';
import { isAllowed } from './authorise.ts';
import type { Tenant } from './tenant.ts';

const pattern = (text: string): Pattern => {
  const parsed = parsePattern(text);
  if (!parsed.ok) throw new Error(parsed.reason);
  return parsed.pattern;
};
const tenant = (allow: string[] | null): Tenant => ({
  id: 'billing',
  accounts: ['main'],
  disabled: false,
  enforcement: 'enforce' as const,
  quota: { maxWaitMs: 0 },
  maxInFlight: null,
  allow: allow?.map(pattern) ?? null,
});

describe('permission', () => {
  const may = (who: Tenant, method: string, path: string) => isAllowed(who, method, splitPath(path));
  const denied = [
    ['POST', '/api/v1/login'],
    ['POST', '/fabric/api/login'],
    ['POST', '/fabric/api/v1/login'],
    ['GET', '/api/v1/api-keys'],
    ['DELETE', '/api/v1/api-keys/4'],
    ['GET', '/api/v1/users/3'],
    ['GET', '/api/v2/my/user'],
    ['PUT', '/api/v2/companies/9/manage'],
    ['PUT', '/API/v1/Companies/9/Manage'],
    ['PUT', '/core-main/api/v1/companies/9/manage'],
  ] as const;

  test.each(denied)('%s %s is denied to a tenant without a list', (method, path) => {
    expect(may(tenant(null), method, path)).toBe(false);
  });

  test.each(denied)('%s %s is denied to a tenant whose list covers it by a wildcard', (method, path) => {
    expect(may(tenant(['* /**', '* /api/**', '* /api/*/**', '* /fabric/**']), method, path)).toBe(false);
  });

  test('a list that names a denied path literally opens it, and nothing beside it', () => {
    const manager = tenant(['PUT /api/v2/companies/*/manage', 'GET /api/v1/flows/**']);
    expect(may(manager, 'PUT', '/api/v2/companies/9/manage')).toBe(true);
    expect(may(manager, 'GET', '/api/v2/companies/9/manage')).toBe(false);
    expect(may(manager, 'GET', '/api/v1/users')).toBe(false);
  });

  test('a tenant without a list may call everything else', () => {
    expect(may(tenant(null), 'DELETE', '/api/v1/data-pool/7')).toBe(true);
    expect(may(tenant(null), 'GET', '/api/v1/companies/9')).toBe(true);
  });

  test('a tenant with an empty list may call nothing', () => {
    expect(may(tenant([]), 'GET', '/api/v1/flows')).toBe(false);
  });
});
