/** 256 bits, as AES-256 takes them. Whoever has Redis can try keys as fast as they like: none that a person chose would do. */
export const KEY_BYTES = 32;

/** From 64 hexadecimal digits, or base64 with either alphabet; null for anything else. */
export function keyBytes(text: string): Buffer | null {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text, 'hex');
  // 32 bytes are 42 digits and one of which two bits are empty.
  if (!/^[A-Za-z0-9+/_-]{42}[AEIMQUYcgkosw048]=?$/.test(text)) return null;
  return Buffer.from(text, 'base64url');
}
