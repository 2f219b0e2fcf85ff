// How far things are, and where work is uneven. Pure.

import { isOver, type Application, type Job, type Operator, type Stage } from './records';

/** Tasks over, of all; nothing where the job runs in place, on the master. */
export function tasksOf(job: Job): { done: number; total: number } {
  const tasks = job.stages.flatMap((stage) => stage.tasks);
  return { done: tasks.filter((task) => isOver(task.state)).length, total: tasks.length };
}

/** From 0 to 1. A running statement counts as the share of its newest job's tasks that are over. */
export function progress(application: Application, jobs: ReadonlyMap<string, Job>): number {
  if (application.state === 'succeeded') return 1;
  const total = Math.max(application.statement_count, application.statements.length);
  if (total === 0) return 0;
  let done = 0;
  for (const statement of application.statements) {
    if (statement.state === 'succeeded') done += 1;
    else if (statement.state === 'running') {
      const job = jobs.get(statement.jobs.at(-1) ?? '');
      const tasks = job ? tasksOf(job) : { done: 0, total: 0 };
      if (tasks.total > 0) done += tasks.done / tasks.total;
    }
  }
  return Math.min(1, done / total);
}

/** What a stage's tasks have done together. `elapsed_micros` is the longest task's. */
export function totals(stage: Stage) {
  const sum = (pick: (task: Stage['tasks'][number]) => number) =>
    stage.tasks.reduce((all, task) => all + pick(task), 0);
  return {
    done: stage.tasks.filter((task) => isOver(task.state)).length,
    rows_read: sum((task) => task.metrics.rows_read),
    bytes_read: sum((task) => task.metrics.bytes_read),
    rows_out: sum((task) => task.metrics.rows_out),
    rows_exchanged: sum((task) => task.metrics.rows_exchanged),
    bytes_exchanged: sum((task) => task.metrics.bytes_exchanged),
    spilled_bytes: sum((task) => task.metrics.spilled_bytes),
    memory_peak_bytes: Math.max(0, ...stage.tasks.map((task) => task.metrics.memory_peak_bytes)),
    elapsed_micros: Math.max(0, ...stage.tasks.map((task) => task.metrics.elapsed_micros)),
  };
}

/** How many times the others' mean the busiest task has, where that is worth a look; in words. */
export function skew(stage: Stage): string {
  if (stage.tasks.length < 2) return '';
  const measures = [
    { name: 'time', floor: 1_000_000, of: (task: Stage['tasks'][number]) => task.metrics.elapsed_micros },
    {
      name: 'rows',
      floor: 10_000,
      of: (task: Stage['tasks'][number]) =>
        Math.max(task.metrics.rows_read, task.metrics.rows_out, task.metrics.rows_exchanged),
    },
  ];
  for (const { name, floor, of } of measures) {
    const values = stage.tasks.map(of);
    const most = Math.max(...values);
    const others = (values.reduce((a, b) => a + b, 0) - most) / (values.length - 1);
    const task = stage.tasks[values.indexOf(most)];
    if (task === undefined || most - others < floor || most < 2 * others) continue;
    if (others === 0) return `task ${task.task} has all the ${name}`;
    return `task ${task.task} has ${(most / others).toFixed(1)}× the ${name} of the others`;
  }
  return '';
}

/** A stage's operators, each summed over its tasks, which all run one plan. */
export function operators(stage: Stage): Operator[] {
  const sums: Operator[] = [];
  for (const task of stage.tasks) {
    (task.metrics.operators ?? []).forEach((one, index) => {
      const sum = sums[index];
      if (sum === undefined) sums[index] = { ...one };
      else if (sum.name === one.name) {
        sum.rows_out += one.rows_out;
        sum.compute_micros += one.compute_micros;
        sum.spilled_bytes += one.spilled_bytes;
        sum.memory_peak_bytes = Math.max(sum.memory_peak_bytes, one.memory_peak_bytes);
      }
    });
  }
  return sums;
}
