// What a stream's partitions and tables say together. Pure.

import type { Stream, StreamPartition } from './records';

/** Rows of its tables of dead letters. */
export function deadLetters(stream: Stream): number {
  const tables = stream.tables ?? [];
  return tables
    .filter((table) => table.kind.includes('dead'))
    .reduce((all, table) => all + table.rows, 0);
}

/** Records that are in Kafka and in no table; nothing while one of the ends is not known. */
export function lagOf(partition: StreamPartition): number | null {
  if (partition.end === null) return null;
  // The end may be read before a commit is.
  return Math.max(0, partition.end - (partition.committed ?? 0));
}
