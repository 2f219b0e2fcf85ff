import { expect, test } from 'vitest';

import { matters } from './attention';
import { fromLists } from './model';
import type { Application, Cluster, Stream, Worker } from './records';

const NOW = 10_000_000_000;
const MINUTE = 60_000;
const CLUSTER = { started_at: NOW - MINUTE } as Cluster;

function worker(some: Partial<Worker>): Worker {
  return { id: 'w', url: 'u', state: 'alive', reason: '', memory_bytes: 100, memory_used_bytes: 10, left_at: 0, ...some } as Worker;
}
function stream(some: Partial<Stream>): Stream {
  return { name: 's', state: 'running', reason: '', since: NOW - 60 * MINUTE, commits: 1, rows: 1, last_commit_at: NOW - 1000, lag: 0, ...some };
}
function application(some: Partial<Application>): Application {
  return { id: 'a', name: 'a', state: 'running', submitted_at: NOW - 1000, ended_at: 0, queue_position: null, failure: null, ...some } as Application;
}
function found(some: { workers?: Worker[]; streams?: Stream[]; applications?: Application[] }): string[] {
  const lists = { workers: [worker({})], streams: [], applications: [], jobs: [], ...some };
  return matters(fromLists(lists), CLUSTER, NOW).map((one) => `${one.level} ${one.name}: ${one.what}`);
}

test('a quiet cluster has nothing to say', () => {
  expect(found({ streams: [stream({}), stream({ name: 'p', state: 'paused', lag: 9 })], applications: [application({})] })).toEqual([]);
});

test('a cluster without workers says so first', () => {
  expect(found({ workers: [] })[0]).toContain('No workers');
});

test('a master that has just started waits for its workers', () => {
  const lost = worker({ state: 'lost', left_at: NOW - 14_000 });
  const lists = { workers: [lost], streams: [], applications: [], jobs: [] };
  const at = (now: number) =>
    matters(fromLists(lists), { started_at: NOW - 14_000 } as Cluster, now).map((one) => one.name);
  expect(at(NOW)).toEqual([]);
  expect(at(NOW + 2_000)).toEqual(['No workers', 'w']);
});

test('streams: failing, waiting, and behind without a commit', () => {
  expect(found({ streams: [stream({ state: 'failing', since: NOW - 3 * MINUTE })] })).toEqual(['bad s: stream failing for 3 m 00 s']);
  expect(found({ streams: [stream({ state: 'waiting', since: 0 })] })).toEqual(['warn s: stream waiting']);
  expect(found({ streams: [stream({ lag: 5, last_commit_at: NOW - 9 * MINUTE })] })).toEqual([]);
  expect(found({ streams: [stream({ lag: 5, last_commit_at: NOW - 11 * MINUTE })] })[0]).toContain('no commit for 11 m');
});

test('workers: lost of late and not back, set aside, short of memory', () => {
  const lost = worker({ id: 'l', url: 'x', state: 'lost', left_at: NOW - MINUTE });
  expect(found({ workers: [worker({}), lost] })).toEqual(['bad l: worker lost']);
  expect(found({ workers: [worker({}), { ...lost, left_at: NOW - 61 * MINUTE }] })).toEqual([]);
  expect(found({ workers: [worker({ url: 'x' }), lost] })).toEqual([]);
  expect(found({ workers: [worker({ state: 'set_aside' })] })).toEqual(['warn w: worker set aside']);
  expect(found({ workers: [worker({ memory_used_bytes: 95 })] })).toEqual(['warn w: worker uses 95 % of its memory']);
});

test('applications: failed of late, waiting for long', () => {
  const failed = application({ state: 'failed', ended_at: NOW - MINUTE });
  expect(found({ applications: [failed] })).toEqual(['bad a: application failed']);
  expect(found({ applications: [{ ...failed, ended_at: NOW - 61 * MINUTE }] })).toEqual([]);
  const waiting = application({ state: 'waiting', submitted_at: NOW - 2 * MINUTE });
  expect(found({ applications: [waiting] })).toEqual(['warn a: application waiting for 2 m 00 s']);
  expect(found({ applications: [{ ...waiting, submitted_at: NOW - 30_000 }] })).toEqual([]);
});

test('the worst comes first, then the newest', () => {
  const all = found({
    workers: [worker({ state: 'set_aside' })],
    applications: [
      application({ id: '1', name: 'old', state: 'failed', ended_at: NOW - 5 * MINUTE }),
      application({ id: '2', name: 'new', state: 'failed', ended_at: NOW - MINUTE }),
    ],
  });
  expect(all.map((one) => one.split(':')[0])).toEqual(['bad new', 'bad old', 'warn w']);
});
