import { expect, test } from 'vitest';

import type { Stream, StreamPartition } from './records';
import { behind, consumedBy, deadLetters, lagOf, reasonsOf } from './streams';

function partition(topic: string, number: number, worker: string): StreamPartition {
  return { topic, partition: number, worker, epoch: 1, committed: 10, end: 25 };
}

test('lag is never below nothing, and not known without an end', () => {
  const one = partition('t', 0, 'w');
  expect(lagOf(one)).toBe(15);
  expect(lagOf({ ...one, committed: null })).toBe(25);
  expect(lagOf({ ...one, committed: 30 })).toBe(0);
  expect(lagOf({ ...one, end: null })).toBeNull();
});

test('how old the next record is stands in words', () => {
  expect(behind(null)).toBe('–');
  expect(behind(undefined)).toBe('–');
  expect(behind(0)).toBe('0 s');
  expect(behind(1.5)).toBe('1.50 s');
  expect(behind(7200)).toBe('2 h 00 m');
});

test('the most frequent reason comes first', () => {
  const dead_letter_reasons = { 'null value': 2, 'malformed json at byte N': 40, 'invalid utf-8 at byte N': 2 };
  expect(reasonsOf({ dead_letter_reasons } as unknown as Stream).map(([reason]) => reason)).toEqual([
    'malformed json at byte N',
    'invalid utf-8 at byte N',
    'null value',
  ]);
  expect(reasonsOf({} as Stream)).toEqual([]);
});

test('dead letters are the rows of their tables', () => {
  const table = { table: 't', rows: 5, commits: 1, last_commit_at: 1, version: 1 };
  const tables = [{ ...table, kind: 'rows' }, { ...table, kind: 'dead letters' }];
  expect(deadLetters({ tables } as Stream)).toBe(5);
  expect(deadLetters({} as Stream)).toBe(0);
});

test('a worker consumes what it was assigned', () => {
  const partitions = [partition('b', 2, 'w'), partition('a', 0, 'other'), partition('b', 0, 'w'), partition('a', 1, 'w')];
  const streams = [{ name: 's', partitions }, { name: 'none' }] as Stream[];
  expect(consumedBy('w', streams)).toEqual([
    { stream: 's', topic: 'b', partitions: [0, 2] },
    { stream: 's', topic: 'a', partitions: [1] },
  ]);
});
