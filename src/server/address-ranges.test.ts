import { describe, expect, test } from 'vitest';
import { addressRanges } from './address-ranges.ts';

describe('a range of addresses', () => {
  test.each([
    ['10.0.0.0/8', '10.255.255.255'],
    ['10.1.2.3/8', '10.0.0.1'],
    ['192.0.2.7/32', '192.0.2.7'],
    ['0.0.0.0/0', '203.0.113.9'],
    ['2001:db8::/32', '2001:DB8:0:1::1'],
    ['10.0.0.0/8', '::ffff:10.0.0.1'],
    ['10.0.0.0/8', '::ffff:a00:1'],
    ['::ffff:10.0.0.0/104', '10.9.9.9'],
  ])('%s includes %s', (cidr, address) => {
    expect(addressRanges(['198.51.100.0/24', cidr]).includes(address)).toBe(true);
  });

  test.each([
    ['10.0.0.0/8', '11.0.0.0'],
    ['192.0.2.7/32', '192.0.2.8'],
    ['0.0.0.0/0', '2001:db8::1'],
    ['::/0', '10.0.0.1'],
    ['2001:db8::/32', '2001:db9::1'],
    ['::ffff:10.0.0.0/104', '11.0.0.1'],
    ['10.0.0.0/8', ''],
    ['10.0.0.0/8', 'unknown'],
    ['10.0.0.0/8', '10.0.0.1, 203.0.113.9'],
  ])('%s does not include %s', (cidr, address) => {
    expect(addressRanges([cidr]).includes(address)).toBe(false);
  });

  test('no range includes no address', () => {
    expect(addressRanges([]).includes('10.0.0.1')).toBe(false);
  });
});
