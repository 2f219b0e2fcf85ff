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
