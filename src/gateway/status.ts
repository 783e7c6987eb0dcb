import type { Parts } from './parts.ts';

/** What GET /status says of accounts, tenants and shared state. */
export function statusOf({ settings, ledger, state }: Parts): Record<string, unknown> {
  const accounts = Object.fromEntries(
    [...settings.accounts.keys()].map((id) => [
      id,
      {
        ...ledger.view(id),
        credentials: settings.accounts
          .get(id)
          ?.credentials.map((credential) => ({ id: credential.id, kind: credential.kind })),
      },
    ]),
  );
  const tenants = Object.fromEntries(
    [...settings.tenants.values()].map(({ id, account, disabled }) => [
      id,
      { account, disabled, quota: ledger.peek(account, id) },
    ]),
  );
  return { accounts, tenants, state: { kind: state.kind, ...state.reading() }, revision: settings.revision };
}
