import { expect, test } from 'vitest';

import { marked } from './caret';

function shown(text: string, line: number, column: number): string {
  const { before, caret, after } = marked(text, line, column);
  return before + caret + after;
}

test('the caret is below its character', () => {
  expect(shown('SELECT a,\n  b\nFROM t', 2, 3)).toBe('SELECT a,\n  b\n  ^\nFROM t');
  expect(shown('SELECT', 1, 7)).toBe('SELECT\n      ^');
});

test('tabs stay tabs, and a character outside of the basic plane is one column', () => {
  expect(shown('\tx', 1, 2)).toBe('\tx\n\t^');
  expect(shown('😀 x', 1, 3)).toBe('😀 x\n  ^');
});

test('a place outside of the text marks nothing', () => {
  for (const [line, column] of [
    [0, 0],
    [1, 0],
    [3, 1],
    [1, 9],
  ] as const) {
    expect(shown('SELECT', line, column)).toBe('SELECT');
  }
});
