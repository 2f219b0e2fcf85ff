import { expect, test } from 'vitest';

import { operators, progress, skew, tasksOf, totals } from './progress';
import { NO_METRICS, type Application, type Job, type Metrics, type Stage, type State } from './records';

function stage(tasks: Partial<Metrics>[], state: State = 'running'): Stage {
  return {
    job: 'j',
    stage: 1,
    state,
    partitions: 1,
    tasks: tasks.map((metrics, task) => ({
      job: 'j', stage: 1, task, attempt: 1, worker: 'w', state, started_at: 1, ended_at: 0,
      metrics: { ...NO_METRICS, ...metrics },
    })),
  };
}

function application(states: State[], count: number, state: State = 'running'): Application {
  const statements = states.map((each, index) => ({ statement: index + 1, state: each, jobs: ['j'] }));
  return { state, statement_count: count, statements } as unknown as Application;
}

test('an application is as far as its statements, and its running job', () => {
  const job = { stages: [stage([{}, {}], 'succeeded'), stage([{}, {}])] } as Job;
  const jobs = new Map([['j', job]]);
  expect(tasksOf(job)).toEqual({ done: 2, total: 4 });
  expect(progress(application([], 0, 'waiting'), jobs)).toBe(0);
  expect(progress(application(['succeeded', 'running'], 4), jobs)).toBe(1.5 / 4);
  expect(progress(application(['succeeded', 'running'], 4), new Map())).toBe(1 / 4);
  expect(progress(application([], 0, 'succeeded'), jobs)).toBe(1);
});

test('a stage sums what its tasks did; times and memory are the largest', () => {
  const sums = totals(stage([{ rows_read: 2, elapsed_micros: 5, memory_peak_bytes: 7 }, { rows_read: 3, elapsed_micros: 9, memory_peak_bytes: 1 }]));
  expect(sums).toMatchObject({ rows_read: 5, elapsed_micros: 9, memory_peak_bytes: 7, done: 0 });
  expect(totals(stage([])).elapsed_micros).toBe(0);
});

test('skew is named where it costs something', () => {
  const seconds = (...all: number[]) => skew(stage(all.map((one) => ({ elapsed_micros: one * 1e6 }))));
  expect(seconds(10)).toBe('');
  expect(seconds(1, 1, 4)).toBe('task 2 has 4.0× the time of the others');
  expect(seconds(10, 11, 12)).toBe('');
  expect(seconds(0.1, 0.9), 'too short to matter').toBe('');
  expect(skew(stage([{ rows_read: 50_000 }, {}]))).toBe('task 0 has all the rows');
});

test('operators add up over tasks, even where one has not reported yet', () => {
  const one = (rows_out: number) => ({ name: 'Scan', depth: 0, rows_out, compute_micros: 1, spilled_bytes: 0, memory_peak_bytes: rows_out });
  const first = stage([{ operators: [one(3)] }, {}, { operators: [one(4)] }]);
  expect(operators(first)).toEqual([{ ...one(7), compute_micros: 2, memory_peak_bytes: 4 }]);
  // What is shown is not what was told: the records stay as they were.
  expect(first.tasks[0]!.metrics.operators).toEqual([one(3)]);
});
