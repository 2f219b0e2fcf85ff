// What a stream's partitions and tables say together. Pure.

import { duration } from './format';
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

/** How old the next record to commit is, in words; a dash while it is not known. */
export function behind(seconds: number | null | undefined): string {
  if (seconds == null) return '–';
  return seconds === 0 ? '0 s' : duration(seconds * 1000);
}

/** Kinds of dead letters, most frequent first. */
export function reasonsOf(stream: Stream): [string, number][] {
  const all = Object.entries(stream.dead_letter_reasons ?? {});
  return all.sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}

export interface Consumed {
  stream: string;
  topic: string;
  partitions: number[];
}

/** The partitions that a worker consumes, by stream and topic. */
export function consumedBy(worker: string, streams: Iterable<Stream>): Consumed[] {
  const found = new Map<string, Consumed>();
  for (const stream of streams) {
    for (const one of (stream.partitions ?? []).filter((each) => each.worker === worker)) {
      const key = JSON.stringify([stream.name, one.topic]);
      const known = found.get(key) ?? { stream: stream.name, topic: one.topic, partitions: [] };
      known.partitions.push(one.partition);
      found.set(key, known);
    }
  }
  return [...found.values()].map((one) => ({
    ...one,
    partitions: one.partitions.sort((a, b) => a - b),
  }));
}
