import { describe, expect, test } from 'vitest';

import type { Fact } from './facts';
import { apply, applyAll, EMPTY, fromLists, isUnknown, touchesStreams, withJobs, type Model } from './model';
import { NO_METRICS, type Application } from './records';

let sequence = 0;

function fact(event: object): Fact {
  sequence += 1;
  return { sequence, at: 1_000 + sequence, ...event } as Fact;
}

const APPLICATION = 'a1';
const JOB = 'j1';
const metrics = (rows_read: number) => ({ ...NO_METRICS, rows_read, elapsed_micros: 5 });

/** The life of an application of one statement, whose first attempt fails. */
function life(): Fact[] {
  const task = { application: APPLICATION, job: JOB, stage: 1 };
  return [
    fact({ event: 'application_accepted', application: APPLICATION, name: 'n', source: 's.sql', submitted_by: 'ana', body: { sql: 'SELECT 1' }, settings: {} }),
    fact({ event: 'application_started', application: APPLICATION, statements: 1 }),
    fact({ event: 'statement_started', application: APPLICATION, statement: 1, sql: 'SELECT 1' }),
    fact({ event: 'job_queued', application: APPLICATION, statement: 1, attempt: 1, position: 2 }),
    fact({ event: 'job_planned', application: APPLICATION, statement: 1, attempt: 1, job: 'j0', stages: [], plan: '' }),
    fact({ event: 'job_ended', application: APPLICATION, job: 'j0', end: 'failed', elapsed_micros: 3, reason: 'lost', metrics: NO_METRICS }),
    fact({ event: 'job_retried', application: APPLICATION, statement: 1, attempt: 2, reason: 'lost', worker: 'w1' }),
    fact({ event: 'job_planned', application: APPLICATION, statement: 1, attempt: 2, job: JOB, stages: [{ stage: 1, tasks: 2, partitions: 4, workers: ['w1', 'w2'] }], plan: 'Scan' }),
    fact({ event: 'task_started', ...task, task: 0, worker: 'w1' }),
    fact({ event: 'task_progressed', ...task, task: 0, metrics: metrics(7) }),
    fact({ event: 'task_ended', ...task, task: 0, worker: 'w1', failed: false, metrics: metrics(9) }),
    fact({ event: 'task_started', ...task, task: 1, worker: 'w2' }),
    fact({ event: 'job_ended', application: APPLICATION, job: JOB, end: 'succeeded', elapsed_micros: 77, reason: '', metrics: NO_METRICS }),
    fact({ event: 'statement_finished', application: APPLICATION, statement: 1, rows: 9, table: '', version: 0, files: 0, already_committed: false, elapsed_micros: 88, message: '' }),
    fact({ event: 'application_finished', application: APPLICATION, state: 'succeeded', failure: null, statement: 0 }),
  ];
}

function application(model: Model): Application {
  return model.applications.get(APPLICATION)!;
}

describe('an application', () => {
  test('goes from accepted to succeeded, with its jobs', () => {
    const facts = life();
    let model = applyAll(EMPTY, facts.slice(0, 4));
    expect(application(model)).toMatchObject({ state: 'running', queue_position: 2, submitted_by: 'ana' });
    model = applyAll(model, facts.slice(4, 10));
    expect(application(model)).toMatchObject({ queue_position: null });
    expect(application(model).statements[0]).toMatchObject({ jobs: ['j0', JOB], retries: ['lost'], attempts: 2 });
    const stage = model.jobs.get(JOB)!.stages[0]!;
    expect(stage).toMatchObject({ state: 'running', partitions: 4 });
    expect(stage.tasks.map((task) => [task.worker, task.state, task.metrics.rows_read])).toEqual([
      ['w1', 'running', 7],
      ['w2', 'waiting', 0],
    ]);
    model = applyAll(model, facts.slice(10));
    expect(application(model)).toMatchObject({ state: 'succeeded', statements: [{ state: 'succeeded', rows: 9 }] });
    const ended = model.jobs.get(JOB)!;
    expect(ended).toMatchObject({ state: 'succeeded', elapsed_micros: 77, stages: [{ state: 'succeeded' }] });
    expect(ended.stages[0]!.tasks.map((task) => task.state)).toEqual(['succeeded', 'succeeded']);
  });

  test('is the same when every fact comes twice', () => {
    const facts = life();
    const once = applyAll(EMPTY, facts);
    const twice = applyAll(EMPTY, facts.flatMap((one) => [one, one]));
    expect(twice).toEqual(once);
  });

  test('is the same when facts that its list already holds come again', () => {
    const facts = life();
    const whole = applyAll(EMPTY, facts);
    for (let from = 0; from < facts.length; from += 1) {
      const again = applyAll(whole, facts.slice(from));
      expect(application(again), `from ${facts[from]!.event}`).toEqual(application(whole));
      expect(again.jobs.get(JOB)!.state).toBe('succeeded');
    }
  });

  test('that fails takes its open statement and job with it', () => {
    const failure = { kind: 'user', message: 'no', hint: '', line: 1, column: 1 };
    const finished = fact({ event: 'application_finished', application: APPLICATION, state: 'failed', failure, statement: 1 });
    const model = applyAll(EMPTY, [...life().slice(0, 9), finished]);
    expect(application(model)).toMatchObject({ state: 'failed', failure, statements: [{ state: 'failed' }] });
    expect(model.jobs.get(JOB)).toMatchObject({ state: 'failed', stages: [{ state: 'failed' }] });
  });

  test('that is not held is asked for', () => {
    const [, started] = life();
    expect(isUnknown(EMPTY, started!)).toBe(APPLICATION);
    expect(apply(EMPTY, started!).applications.size).toBe(0);
    const committed = { event: 'table_committed', table: 't', version: 1, rows: 1, files: 1, bytes: 1, application: '', statement: 0, stream: 's' };
    expect(isUnknown(EMPTY, fact(committed))).toBeNull();
  });
});

test('what did not change stays the same object', () => {
  const model = applyAll(EMPTY, life());
  const joined = fact({ event: 'worker_joined', worker: 'w9', url: 'u', cores: 2, memory_bytes: 1, build: 'b', pid: 1 });
  const next = apply(model, joined);
  expect(next.applications).toBe(model.applications);
  expect(next.workers).not.toBe(model.workers);
});

test('a worker joins, reports, is set aside, is lost', () => {
  const worker = 'w1';
  const at = (facts: object[]) => applyAll(EMPTY, facts.map(fact)).workers.get(worker);
  const facts: object[] = [
    { event: 'worker_joined', worker, url: 'http://w', cores: 4, memory_bytes: 100, build: 'b', pid: 9 },
    { event: 'worker_reported', worker, running_tasks: 3, memory_bytes: 60 },
    { event: 'worker_changed', worker, state: 'set_aside', reason: 'disk' },
    { event: 'worker_left', worker, clean: false, reason: 'silent' },
  ];
  expect(at(facts.slice(0, 2))).toMatchObject({ state: 'alive', running_tasks: 3, memory_used_bytes: 60 });
  expect(at(facts.slice(0, 3))).toMatchObject({ state: 'set_aside', reason: 'disk' });
  expect(at(facts)).toMatchObject({ state: 'lost', reason: 'silent', running_tasks: 0 });
  expect(at([...facts, { ...facts[0] }])).toMatchObject({ state: 'alive', reason: '' });
});

test('a stream keeps since when it is as it is', () => {
  const change = (state: string, reason: string) => fact({ event: 'stream_changed', stream: 's', state, reason });
  const first = apply(EMPTY, change('failing', 'one'));
  const since = first.streams.get('s')!.since;
  const second = apply(first, change('failing', 'two'));
  expect(second.streams.get('s')).toMatchObject({ since, reason: 'two' });
  const third = apply(second, change('running', ''));
  expect(third.streams.get('s')!.since).toBeGreaterThan(since);
  expect(apply(third, fact({ event: 'stream_deleted', stream: 's' })).streams.size).toBe(0);
  expect(touchesStreams(change('running', ''))).toBe(true);
});

test('a list of jobs does not take away a plan that was read', () => {
  const whole = applyAll(EMPTY, life()).jobs.get(JOB)!;
  const model = withJobs(fromLists({ applications: [], jobs: [whole], workers: [], streams: [] }), [
    { ...whole, plan: '' },
  ]);
  expect(model.jobs.get(JOB)!.plan).toBe('Scan');
});

test('what is over is forgotten in the end, what runs is not', () => {
  const facts = Array.from({ length: 700 }, (_, index) => {
    const id = `a${String(index).padStart(4, '0')}`;
    const accepted = fact({ event: 'application_accepted', application: id, name: id, source: '', submitted_by: '' });
    const finished = fact({ event: 'application_finished', application: id, state: 'succeeded', failure: null, statement: 0 });
    return index % 100 === 0 ? [accepted] : [accepted, finished];
  }).flat();
  const model = applyAll(EMPTY, facts);
  expect(model.applications.size).toBeLessThanOrEqual(501);
  expect(model.applications.has('a0000')).toBe(true);
  expect(model.applications.has('a0001')).toBe(false);
});

test('a fact of a newer master changes nothing', () => {
  const strange = fact({ event: 'moon_rose', application: 'a1' });
  expect({ ...apply(EMPTY, strange), sequence: 0 }).toEqual(EMPTY);
});
