// What `/api/v1` answers, as the master serialises it (master/src/facts/records.rs). Times are
// milliseconds since 1970; 0 means not yet.

export type State = 'waiting' | 'running' | 'succeeded' | 'failed' | 'cancelled';
export type WorkerState = 'alive' | 'draining' | 'set_aside' | 'left' | 'lost';

export interface Cluster {
  cluster_id: string;
  build: string;
  lake: string;
  started_at: number;
  now: number;
  workers: number;
  cores: number;
  running_tasks: number;
  running_applications: number;
  waiting_applications: number;
  running_jobs: number;
}

export interface Failure {
  kind: string;
  message: string;
  hint: string;
  line: number;
  column: number;
}

export interface Application {
  id: string;
  name: string;
  kind: string;
  source: string;
  submitted_by: string;
  state: State;
  submitted_at: number;
  ended_at: number;
  statement_count: number;
  statements: Statement[];
  queue_position: number | null;
  resumed: number;
  failure: Failure | null;
}

export interface Statement {
  application: string;
  statement: number;
  sql: string;
  state: State;
  started_at: number;
  ended_at: number;
  elapsed_micros: number;
  attempts: number;
  jobs: string[];
  rows: number;
  table: string;
  version: number;
  files: number;
  already_committed: boolean;
  message: string;
  retries: string[];
}

export interface Job {
  id: string;
  application: string;
  statement: number;
  attempt: number;
  state: State;
  started_at: number;
  ended_at: number;
  elapsed_micros: number;
  reason: string;
  stages: Stage[];
  metrics: Metrics;
  plan: string;
}

export interface Stage {
  job: string;
  stage: number;
  state: State;
  partitions: number;
  tasks: Task[];
}

export interface Task {
  job: string;
  stage: number;
  task: number;
  attempt: number;
  worker: string;
  state: State;
  started_at: number;
  ended_at: number;
  metrics: Metrics;
}

export interface Metrics {
  rows_read: number;
  bytes_read: number;
  rows_out: number;
  rows_exchanged: number;
  bytes_exchanged: number;
  spilled_bytes: number;
  memory_peak_bytes: number;
  elapsed_micros: number;
  operators?: Operator[];
}

export interface Operator {
  name: string;
  depth: number;
  rows_out: number;
  compute_micros: number;
  spilled_bytes: number;
  memory_peak_bytes: number;
}

export interface Worker {
  id: string;
  url: string;
  state: WorkerState;
  reason: string;
  cores: number;
  memory_bytes: number;
  build: string;
  pid: number;
  joined_at: number;
  left_at: number;
  running_tasks: number;
  memory_used_bytes: number;
}

export interface Stream {
  name: string;
  state: string;
  reason: string;
  since: number;
  commits: number;
  rows: number;
  last_commit_at: number;
  /** Live, asked of the coordinator: absent until it knows. */
  lag?: number | null;
  /** Age of the next record to commit; null while it is not known. */
  lag_seconds?: number | null;
  records_per_second?: number;
  bytes_per_second?: number;
  /** Calls of object stores for a million records. */
  requests_per_million?: number | null;
  /** Since the master started, by what is wrong with them. */
  dead_letter_reasons?: Record<string, number>;
  topics?: string[];
  partitions?: StreamPartition[];
  tables?: StreamTable[];
}

export interface StreamPartition {
  topic: string;
  partition: number;
  worker: string;
  epoch: number;
  /** Nothing was committed yet. */
  committed: number | null;
  /** Not known yet. */
  end: number | null;
  /** Where the stream ends by itself. */
  until?: number | null;
  lag_seconds?: number | null;
  /** Newest of the brokers' dates among committed records. */
  watermark?: number | null;
  records_per_second?: number;
}

export interface StreamTable {
  table: string;
  kind: string;
  rows: number;
  commits: number;
  last_commit_at: number;
  version: number;
  files?: number;
  bytes?: number;
}

export interface Session {
  name: string;
  role: string;
}

export const NO_METRICS: Metrics = {
  rows_read: 0,
  bytes_read: 0,
  rows_out: 0,
  rows_exchanged: 0,
  bytes_exchanged: 0,
  spilled_bytes: 0,
  memory_peak_bytes: 0,
  elapsed_micros: 0,
};

export function isOver(state: State): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled';
}

export function isMember(state: WorkerState): boolean {
  return state === 'alive' || state === 'draining' || state === 'set_aside';
}
