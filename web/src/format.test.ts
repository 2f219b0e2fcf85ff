import { describe, expect, test } from 'vitest';

import { absolute, ago, bytes, count, duration, plural, running, short } from './format';

describe('numbers', () => {
  test.each([
    [0, '0'],
    [999, '999'],
    [1_000, '1.00 k'],
    [12_345, '12.3 k'],
    [999_400, '999 k'],
    [999_600, '1.00 M'],
    [4_560_000, '4.56 M'],
    [2 ** 53, '9.01 P'],
  ])('%d is %s for short', (value, text) => expect(short(value)).toBe(text));

  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [1536, '1.50 KiB'],
    [1024 * 1023.9, '1.00 MiB'],
    [21.44 * 2 ** 30, '21.4 GiB'],
  ])('%d bytes are %s', (value, text) => expect(bytes(value)).toBe(text));

  test('counts are whole', () => {
    expect(count(1_234_567)).toBe('1,234,567');
    expect(plural(1, 'task')).toBe('1 task');
    expect(plural(0, 'task')).toBe('0 tasks');
  });
});

describe('times', () => {
  test.each([
    [0, '0 ms'],
    [999, '999 ms'],
    [999.6, '1.00 s'],
    [1_234, '1.23 s'],
    [12_340, '12.3 s'],
    [59_940, '59.9 s'],
    [59_960, '1 m 00 s'],
    [245_000, '4 m 05 s'],
    [3_599_600, '1 h 00 m'],
    [7_620_000, '2 h 07 m'],
    [273_600_000, '3 d 04 h'],
    [-5, '0 ms'],
  ])('%d ms are %s', (value, text) => expect(duration(value)).toBe(text));

  test('what goes on counts whole seconds', () => {
    expect(running(4_900)).toBe('4 s');
    expect(running(-1)).toBe('0 s');
    expect(running(61_000)).toBe('1 m 01 s');
  });

  test('a clock that is behind shows no negative age', () => {
    expect(ago(10_000, 5_000)).toBe('just now');
    expect(ago(0, 59_999)).toBe('59 s ago');
    expect(ago(0, 60_000)).toBe('1 m ago');
    expect(ago(0, 47 * 3_600_000)).toBe('47 h ago');
    expect(ago(0, 48 * 3_600_000)).toBe('2 d ago');
  });

  test('the absolute time has all its digits', () => {
    expect(absolute(new Date(2026, 2, 1, 4, 5, 6, 7).getTime())).toBe('2026-03-01 04:05:06.007');
  });
});
