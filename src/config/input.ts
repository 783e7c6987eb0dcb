import type { GatewayInput } from './schema.ts';
import type { Path, Source } from './source.ts';
import type { TenantInput } from './tenant-schema.ts';
import type { ReadTls } from './tls.ts';

/** Everything a load has gathered, each part valid by itself. */
export interface BuildInput {
  readonly gateway: GatewayInput;
  readonly gatewaySource: Source;
  readonly tenants: Record<string, TenantInput>;
  readonly tenantsSource: Source;
  readonly fromFiles: readonly string[];
  readonly tls: Pick<ReadTls, 'traffic' | 'admin'>;
  readonly logLevel: string | undefined;
  readonly revision: string;
  readonly now: number;
}

/** Notes what is wrong, with the line it stands on. */
export type Report = (source: Source, path: Path, message: string) => void;
