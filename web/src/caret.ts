// A caret under the place that an error names. Pure.

export interface Marked {
  before: string;
  /** The line with the caret, its line break included; empty where the place is not in the text. */
  caret: string;
  after: string;
}

/** `line` and `column` count from 1, columns in characters; 0 is nowhere. */
export function marked(text: string, line: number, column: number): Marked {
  const lines = text.split('\n');
  const at = lines[line - 1];
  if (line < 1 || column < 1 || at === undefined) return { before: text, caret: '', after: '' };
  const characters = [...at];
  if (column > characters.length + 1) return { before: text, caret: '', after: '' };
  // Tabs stay, so that the caret stands below its character however wide they are.
  const indent = characters.slice(0, column - 1).map((each) => (each === '\t' ? '\t' : ' '));
  const after = lines.slice(line).join('\n');
  return {
    before: `${lines.slice(0, line).join('\n')}\n`,
    caret: `${indent.join('')}^${after === '' ? '' : '\n'}`,
    after,
  };
}

/**
 * Where in one statement's text the place is that a failure names in the whole submitted text, of which only the
 * statement is known here: the one line on which the message's own words stand at that column. Nowhere (0) where
 * none or more than one is.
 */
export function placeIn(sql: string, failure: { line: number; column: number; message: string }) {
  const nowhere = { line: 0, column: 0 };
  if (failure.line < 1 || failure.column < 1) return nowhere;
  const found: number[] = [];
  sql.split('\n').forEach((text, index) => {
    // A statement begins at its text's first line at the earliest.
    if (index + 1 > failure.line) return;
    const rest = [...text].slice(failure.column - 1).join('');
    const word = rest.match(/^["`]?([\p{L}\p{N}_.]+|[^\s\p{L}\p{N}])/u)?.[1];
    if (word !== undefined && failure.message.includes(word)) found.push(index + 1);
  });
  const [line] = found;
  return found.length === 1 && line !== undefined ? { line, column: failure.column } : nowhere;
}
