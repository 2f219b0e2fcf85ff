// The events that the master tells (master/src/facts/event.rs), as far as the page makes use of them.

import type { Failure, Metrics, State, WorkerState } from './records';

interface TaskName {
  application: string;
  job: string;
  stage: number;
  task: number;
}

type Event =
  | { event: 'master_started'; build: string; lake: string }
  | {
      event: 'application_accepted';
      application: string;
      name: string;
      source: string;
      submitted_by: string;
      body?: unknown;
    }
  | { event: 'application_started'; application: string; statements: number }
  | { event: 'application_resumed'; application: string; statement: number }
  | { event: 'statement_started'; application: string; statement: number; sql: string }
  | {
      event: 'job_queued';
      application: string;
      statement: number;
      attempt: number;
      position: number;
      table?: string;
    }
  | {
      event: 'job_planned';
      application: string;
      statement: number;
      attempt: number;
      job: string;
      stages: { stage: number; tasks: number; partitions: number; workers: string[] }[];
      plan?: string;
    }
  | ({ event: 'task_started'; worker: string } & TaskName)
  | ({ event: 'task_progressed'; metrics: Metrics } & TaskName)
  | ({ event: 'task_ended'; worker: string; failed: boolean; metrics: Metrics } & TaskName)
  | {
      event: 'job_ended';
      application: string;
      job: string;
      end: 'succeeded' | 'failed' | 'cancelled';
      elapsed_micros: number;
      reason: string;
      metrics: Metrics;
    }
  | {
      event: 'job_retried';
      application: string;
      statement: number;
      attempt: number;
      reason: string;
      worker: string;
    }
  | { event: 'result_ready'; application: string; statement: number }
  | {
      event: 'statement_finished';
      application: string;
      statement: number;
      rows: number;
      table: string;
      version: number;
      files: number;
      already_committed: boolean;
      elapsed_micros: number;
      message: string;
    }
  | {
      event: 'application_finished';
      application: string;
      state: State;
      failure: Failure | null;
      statement: number;
    }
  | {
      event: 'worker_joined';
      worker: string;
      url: string;
      cores: number;
      memory_bytes: number;
      build: string;
      pid: number;
    }
  | { event: 'worker_reported'; worker: string; running_tasks: number; memory_bytes: number }
  | { event: 'worker_changed'; worker: string; state: WorkerState; reason: string }
  | { event: 'worker_left'; worker: string; clean: boolean; reason: string }
  | { event: 'stream_changed'; stream: string; state: string; reason: string }
  | { event: 'stream_deleted'; stream: string }
  | {
      event: 'table_committed';
      table: string;
      version: number;
      rows: number;
      files: number;
      bytes: number;
      application: string;
      statement: number;
      stream: string;
    };

export type Fact = { sequence: number; at: number } & Event;
