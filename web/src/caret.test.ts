import { expect, test } from 'vitest';

import { marked, placeIn } from './caret';

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

test('the place of the whole text is found in the statement that has it', () => {
  const sql = 'SELECT artist,\n       nothing_like_it\nFROM listen_events';
  const failure = { line: 2, column: 8, message: 'column `nothing_like_it` does not exist' };
  expect(placeIn(sql, failure)).toEqual({ line: 2, column: 8 });
  // Statements and comments may come before it.
  expect(placeIn(sql, { ...failure, line: 40 })).toEqual({ line: 2, column: 8 });
  const quoted = { line: 1, column: 8, message: 'no column userid' };
  expect(placeIn('SELECT "userid"', quoted)).toEqual({ line: 1, column: 8 });
});

test('a place that is not sure is not shown', () => {
  const message = 'column `x` is not there';
  const nowhere = { line: 0, column: 0 };
  expect(placeIn('SELECT zz', { line: 1, column: 8, message })).toEqual(nowhere);
  expect(placeIn('SELECT x,\n       x', { line: 2, column: 8, message })).toEqual(nowhere);
  expect(placeIn('SELECT 1,\n       x', { line: 1, column: 8, message }), 'after line 1').toEqual(nowhere);
  expect(placeIn('SELECT x', { line: 0, column: 0, message })).toEqual(nowhere);
});
