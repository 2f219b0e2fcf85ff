// What the page knows of the cluster, and how a fact changes it. Pure: a changed record is a new object
// in a new map, so that views see what changed by identity. Applying a fact twice, or one that a list
// already holds, gives the same records: lists are read while facts arrive.

import type { Fact } from './facts';
import {
  isMember,
  isOver,
  NO_METRICS,
  type Application,
  type Job,
  type Stage,
  type State,
  type Statement,
  type Stream,
  type Task,
  type Worker,
} from './records';

/** Applications and jobs that are over and still held; the rest is asked for when looked at. */
const KEPT_APPLICATIONS = 500;
const KEPT_JOBS = 200;

export interface Model {
  readonly sequence: number;
  readonly applications: ReadonlyMap<string, Application>;
  readonly jobs: ReadonlyMap<string, Job>;
  readonly workers: ReadonlyMap<string, Worker>;
  readonly streams: ReadonlyMap<string, Stream>;
}

export interface Lists {
  applications: Application[];
  jobs: Job[];
  workers: Worker[];
  streams: Stream[];
}

export const EMPTY: Model = {
  sequence: 0,
  applications: new Map(),
  jobs: new Map(),
  workers: new Map(),
  streams: new Map(),
};

/** A model of lists that were just read. Jobs that were opened keep their operators and plan. */
export function fromLists(lists: Lists): Model {
  return {
    sequence: 0,
    applications: byKey(lists.applications, (one) => one.id),
    jobs: byKey(lists.jobs, (one) => one.id),
    workers: byKey(lists.workers, (one) => one.id),
    streams: byKey(lists.streams, (one) => one.name),
  };
}

export function withApplication(model: Model, application: Application): Model {
  return { ...model, applications: put(model.applications, application.id, application) };
}

export function withJobs(model: Model, jobs: Job[]): Model {
  const all = new Map(model.jobs);
  for (const job of jobs) {
    const known = all.get(job.id);
    // A list leaves the plan out.
    all.set(job.id, known && !job.plan ? { ...job, plan: known.plan } : job);
  }
  return { ...model, jobs: all };
}

export function withStreams(model: Model, streams: Stream[]): Model {
  return { ...model, streams: byKey(streams, (one) => one.name) };
}

export function withStream(model: Model, stream: Stream): Model {
  return { ...model, streams: put(model.streams, stream.name, stream) };
}

/** Applies facts in order. */
export function applyAll(model: Model, facts: Fact[]): Model {
  return facts.reduce(apply, model);
}

export function apply(model: Model, fact: Fact): Model {
  const changed = change(model, fact);
  return changed.sequence === fact.sequence ? changed : { ...changed, sequence: fact.sequence };
}

function change(model: Model, fact: Fact): Model {
  const at = fact.at;
  switch (fact.event) {
    case 'application_accepted': {
      if (model.applications.has(fact.application)) return model;
      const accepted: Application = {
        id: fact.application,
        name: fact.name,
        kind: fact.body === 'plan' ? 'plan' : 'sql',
        source: fact.source,
        submitted_by: fact.submitted_by,
        state: 'waiting',
        submitted_at: at,
        ended_at: 0,
        statement_count: 0,
        statements: [],
        queue_position: null,
        resumed: 0,
        failure: null,
      };
      const applications = put(model.applications, accepted.id, accepted);
      return { ...model, applications: newest(applications, KEPT_APPLICATIONS) };
    }
    case 'application_started':
      return application(model, fact.application, (one) =>
        isOver(one.state) ? one : { ...one, state: 'running', statement_count: fact.statements },
      );
    case 'statement_started':
      return application(model, fact.application, (one) => {
        const known = one.statements.find((each) => each.statement === fact.statement);
        if (known && isOver(known.state)) return one;
        const started: Statement = known
          ? { ...known, state: 'running' }
          : newStatement(fact.application, fact.statement, fact.sql, at);
        return { ...one, statements: withStatement(one.statements, started) };
      });
    case 'job_queued':
      return application(model, fact.application, (one) => ({
        ...one,
        queue_position: fact.position,
      }));
    case 'job_planned': {
      const planned: Job = {
        id: fact.job,
        application: fact.application,
        statement: fact.statement,
        attempt: fact.attempt,
        state: 'running',
        started_at: at,
        ended_at: 0,
        elapsed_micros: 0,
        reason: '',
        stages: fact.stages.map((plan) => ({
          job: fact.job,
          stage: plan.stage,
          state: 'waiting',
          partitions: plan.partitions,
          tasks: Array.from({ length: plan.tasks }, (_, task) => ({
            job: fact.job,
            stage: plan.stage,
            task,
            attempt: fact.attempt,
            worker: plan.workers[task] ?? '',
            state: 'waiting',
            started_at: 0,
            ended_at: 0,
            metrics: NO_METRICS,
          })),
        })),
        metrics: NO_METRICS,
        plan: fact.plan ?? '',
      };
      const told = statement(model, fact.application, fact.statement, (one) => ({
        ...one,
        jobs: one.jobs.includes(fact.job) ? one.jobs : [...one.jobs, fact.job],
        attempts: Math.max(one.attempts, fact.attempt),
      }));
      const started = application(told, fact.application, (one) => ({
        ...one,
        queue_position: null,
      }));
      if (model.jobs.has(fact.job)) return started;
      return { ...started, jobs: newest(put(started.jobs, fact.job, planned), KEPT_JOBS) };
    }
    case 'task_started':
      return task(model, fact, (one) =>
        isOver(one.state)
          ? one
          : { ...one, state: 'running', worker: fact.worker, started_at: at },
      );
    case 'task_progressed':
      return task(model, fact, (one) =>
        isOver(one.state) ? one : { ...one, metrics: fact.metrics },
      );
    case 'task_ended':
      return task(model, fact, (one) => ({
        ...one,
        state: fact.failed ? 'failed' : 'succeeded',
        worker: fact.worker,
        ended_at: at,
        metrics: fact.metrics.elapsed_micros > 0 ? fact.metrics : one.metrics,
      }));
    case 'job_ended':
      return job(model, fact.job, (one) =>
        endJob(
          { ...one, elapsed_micros: fact.elapsed_micros, reason: fact.reason, metrics: fact.metrics },
          fact.end,
          at,
        ),
      );
    case 'job_retried':
      return statement(model, fact.application, fact.statement, (one) => {
        // `attempt` is the one that comes, so the second attempt has the first reason.
        const retries = [...one.retries];
        retries[Math.max(0, fact.attempt - 2)] = fact.reason;
        return { ...one, attempts: Math.max(one.attempts, fact.attempt), retries };
      });
    case 'statement_finished':
      return statement(model, fact.application, fact.statement, (one) => ({
        ...one,
        state: 'succeeded',
        ended_at: at,
        elapsed_micros: fact.elapsed_micros,
        rows: fact.rows,
        table: fact.table,
        version: fact.version,
        files: fact.files,
        already_committed: fact.already_committed,
        message: fact.message,
      }));
    case 'application_finished': {
      const finished = application(model, fact.application, (one) => ({
        ...one,
        state: fact.state,
        ended_at: at,
        queue_position: null,
        failure: fact.failure,
        statements: one.statements.map((each) =>
          isOver(each.state) ? each : { ...each, state: fact.state, ended_at: at },
        ),
      }));
      const open = [...model.jobs.values()].filter(
        (one) => one.application === fact.application && !isOver(one.state),
      );
      return open.reduce(
        (all, one) => job(all, one.id, (each) => endJob(each, fact.state, at)),
        finished,
      );
    }
    case 'worker_joined': {
      const joined: Worker = {
        id: fact.worker,
        url: fact.url,
        state: 'alive',
        reason: '',
        cores: fact.cores,
        memory_bytes: fact.memory_bytes,
        build: fact.build,
        pid: fact.pid,
        joined_at: at,
        left_at: 0,
        running_tasks: 0,
        memory_used_bytes: 0,
      };
      return { ...model, workers: put(model.workers, fact.worker, joined) };
    }
    case 'worker_reported':
      return worker(model, fact.worker, (one) => ({
        ...one,
        running_tasks: fact.running_tasks,
        memory_used_bytes: fact.memory_bytes,
      }));
    case 'worker_changed':
      return worker(model, fact.worker, (one) => ({
        ...one,
        state: fact.state,
        reason: fact.reason,
      }));
    case 'worker_left':
      return worker(model, fact.worker, (one) => ({
        ...one,
        state: fact.clean ? 'left' : 'lost',
        reason: fact.reason,
        left_at: at,
        running_tasks: 0,
      }));
    case 'stream_changed': {
      const known = model.streams.get(fact.stream);
      const stream: Stream = {
        ...(known ?? { name: fact.stream, commits: 0, rows: 0, last_commit_at: 0 }),
        state: fact.state,
        reason: fact.reason,
        since: known?.state === fact.state ? known.since : at,
      };
      return { ...model, streams: put(model.streams, fact.stream, stream) };
    }
    case 'stream_deleted': {
      const streams = new Map(model.streams);
      streams.delete(fact.stream);
      return { ...model, streams };
    }
    // A stream's counts are read with its lag; adding here could count a commit twice.
    case 'table_committed':
    case 'application_resumed':
    case 'result_ready':
    case 'master_started':
      return model;
    default:
      // A newer master may tell more than this page knows.
      return model;
  }
}

/** Whether the streams' lag and counts are worth reading again. */
export function touchesStreams(fact: Fact): boolean {
  return (
    fact.event === 'stream_changed' ||
    (fact.event === 'table_committed' && fact.stream !== '')
  );
}

/** A running application that has been heard of, but never in full. */
export function isUnknown(model: Model, fact: Fact): string | null {
  if (!('application' in fact) || fact.application === '') return null;
  return model.applications.has(fact.application) ? null : fact.application;
}

function byKey<T>(items: T[], key: (item: T) => string): Map<string, T> {
  return new Map(items.map((item) => [key(item), item]));
}

function put<T>(map: ReadonlyMap<string, T>, key: string, value: T): Map<string, T> {
  return new Map(map).set(key, value);
}

/** Forgets the oldest that are over. Ids sort by age. */
function newest<T extends { id: string; state: State }>(
  map: Map<string, T>,
  kept: number,
): Map<string, T> {
  if (map.size <= kept) return map;
  const over = [...map.values()].filter((one) => isOver(one.state));
  over.sort((a, b) => (a.id < b.id ? -1 : 1));
  for (const one of over.slice(0, map.size - kept)) map.delete(one.id);
  return map;
}

function application(
  model: Model,
  id: string,
  change: (one: Application) => Application,
): Model {
  const known = model.applications.get(id);
  if (!known) return model;
  const next = change(known);
  return next === known ? model : { ...model, applications: put(model.applications, id, next) };
}

function newStatement(id: string, number: number, sql: string, at: number): Statement {
  return {
    application: id,
    statement: number,
    sql,
    state: 'running',
    started_at: at,
    ended_at: 0,
    elapsed_micros: 0,
    attempts: 0,
    jobs: [],
    rows: 0,
    table: '',
    version: 0,
    files: 0,
    already_committed: false,
    message: '',
    retries: [],
  };
}

function withStatement(statements: Statement[], one: Statement): Statement[] {
  const others = statements.filter((each) => each.statement !== one.statement);
  return [...others, one].sort((a, b) => a.statement - b.statement);
}

function statement(
  model: Model,
  id: string,
  number: number,
  change: (one: Statement) => Statement,
): Model {
  return application(model, id, (one) => {
    const known = one.statements.find((each) => each.statement === number);
    return known ? { ...one, statements: withStatement(one.statements, change(known)) } : one;
  });
}

function job(model: Model, id: string, change: (one: Job) => Job): Model {
  const known = model.jobs.get(id);
  return known ? { ...model, jobs: put(model.jobs, id, change(known)) } : model;
}

function task(
  model: Model,
  name: { job: string; stage: number; task: number },
  change: (one: Task) => Task,
): Model {
  return job(model, name.job, (one) => ({
    ...one,
    stages: one.stages.map((stage) => {
      if (stage.stage !== name.stage) return stage;
      const tasks = stage.tasks.map((each) => (each.task === name.task ? change(each) : each));
      return { ...stage, tasks, state: stageState(tasks) };
    }),
  }));
}

function worker(model: Model, id: string, change: (one: Worker) => Worker): Model {
  const known = model.workers.get(id);
  return known ? { ...model, workers: put(model.workers, id, change(known)) } : model;
}

function stageState(tasks: Task[]): State {
  if (tasks.some((one) => one.state === 'failed')) return 'failed';
  if (tasks.every((one) => one.state === 'succeeded')) return 'succeeded';
  if (tasks.every((one) => one.state === 'waiting')) return 'waiting';
  return 'running';
}

/** The tasks of a job that is over are over too: with it, or cut off. */
function endJob(one: Job, state: State, at: number): Job {
  const stages = one.stages.map((stage): Stage => {
    const tasks = stage.tasks.map((each) =>
      isOver(each.state) ? each : { ...each, state, ended_at: at },
    );
    const isWhole = state === 'succeeded' || stage.tasks.every((each) => each.state === 'succeeded');
    return { ...stage, tasks, state: isWhole ? 'succeeded' : state };
  });
  return { ...one, state, ended_at: at, stages };
}

export { isMember };
