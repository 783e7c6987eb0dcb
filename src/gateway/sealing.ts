import type { SealingKey } from '../adapters/redis/seal.ts';
import { keyBytes } from '../config/encryption.ts';
import type { EncryptionKey } from '../config/model.ts';

export function sealingKeyOf({ id, secret }: EncryptionKey): SealingKey {
  const bytes = keyBytes(secret.reveal());
  // The load has refused it.
  if (bytes === null) throw new Error(`encryption key ${id} is malformed`);
  return { id, bytes };
}
