// A server in place of a master, for states that a small cluster cannot be brought into at will: skew, spill,
// a lost worker, a failing stream, hostile names everywhere. Serves the built page under the master's headers.

import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { NO_METRICS, type Application, type Job, type Metrics, type Stream, type Worker } from '../../src/records';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
  "base-uri 'none'; frame-ancestors 'none'; form-action 'self'";
const TYPES: Record<string, string> = { html: 'text/html', js: 'text/javascript', css: 'text/css' };

export const HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>"\'&amp;{{7*7}}';
export const TOKEN = 'fixture-token';

export interface Fixture {
  url: string;
  posted: string[];
  tell(fact: object): void;
  signOut(): void;
  close(): Promise<void>;
}

export async function serve(options: { signedIn: boolean }): Promise<Fixture> {
  const now = Date.now();
  const data = records(now);
  const listeners = new Set<ServerResponse>();
  const posted: string[] = [];
  let isSignedIn = options.signedIn;
  let sequence = 1000;

  const server: Server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://fixture');
    const json = (status: number, body?: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(body === undefined ? '' : JSON.stringify(body));
    };
    const page = (items: unknown[]) => json(200, { items, next: null });
    const one = (found: unknown) =>
      found === undefined ? json(404, { error: { message: 'it is not known', hint: '' } }) : json(200, found);
    if (!url.pathname.startsWith('/api/v1/')) {
      const name = url.pathname === '/' ? 'index.html' : url.pathname.slice(1);
      const path = join(DIST, name);
      if (name.includes('..') || !existsSync(path)) return json(404);
      response.writeHead(200, {
        'content-type': TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream',
        'content-security-policy': POLICY,
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
      });
      return response.end(readFileSync(path));
    }
    const [what = '', id, more] = url.pathname.slice('/api/v1/'.length).split('/').map(decodeURIComponent);
    if (request.method === 'POST' || request.method === 'DELETE') {
      let body = '';
      request.on('data', (part) => (body += part));
      return request.on('end', () => {
        if (request.headers['x-drumline'] !== '1') return json(403, { error: { message: 'no header', hint: '' } });
        posted.push(`${request.method} ${url.pathname}`);
        if (what === 'session') {
          isSignedIn = request.method === 'POST' && JSON.parse(body).token === TOKEN;
          if (!isSignedIn && request.method === 'POST') {
            return json(401, { error: { message: 'the token is not known here', hint: 'ask an admin' } });
          }
          return json(204);
        }
        if (more === 'drain') return json(403, { error: { message: 'this needs the role admin', hint: '' } });
        return json(202);
      });
    }
    if (what === 'session') {
      return json(200, isSignedIn ? { name: HOSTILE, role: 'admin' } : { name: '', role: '' });
    }
    if (!isSignedIn) return json(401, { error: { message: 'this needs a token', hint: '' } });
    switch (what) {
      case 'cluster':
        return json(200, { ...data.cluster, now: Date.now() });
      case 'workers':
        return id === undefined ? page(data.workers) : one(data.workers.find((each) => each.id === id));
      case 'applications':
        return id === undefined
          ? page(data.applications)
          : one(data.applications.find((each) => each.id === id));
      case 'jobs':
        return id === undefined ? page(data.jobs) : one(data.jobs.find((each) => each.id === id));
      case 'tasks':
        return page(data.jobs.flatMap((job) => job.stages.flatMap((stage) => stage.tasks)));
      case 'streams':
        return page(data.streams);
      case 'events':
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(': here\n\n');
        listeners.add(response);
        return request.on('close', () => listeners.delete(response));
      default:
        return json(404);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    posted,
    tell(fact) {
      sequence += 1;
      const text = JSON.stringify({ sequence, at: Date.now(), ...fact });
      for (const one of listeners) one.write(`event: fact\nid: ${sequence}\ndata: ${text}\n\n`);
    },
    signOut() {
      isSignedIn = false;
      for (const one of listeners) one.end();
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function metrics(some: Partial<Metrics>): Metrics {
  return { ...NO_METRICS, ...some };
}

function records(now: number) {
  const minute = 60_000;
  const worker = (some: Partial<Worker>): Worker => ({
    id: 'worker-1',
    url: 'http://10.0.0.2:41234',
    state: 'alive',
    reason: '',
    cores: 16,
    memory_bytes: 64 * 2 ** 30,
    build: '0.1.0',
    pid: 4711,
    joined_at: now - 200 * minute,
    left_at: 0,
    running_tasks: 12,
    memory_used_bytes: 21.4 * 2 ** 30,
    ...some,
  });
  const application = (some: Partial<Application>): Application => ({
    id: '',
    name: '',
    kind: 'sql',
    source: '',
    submitted_by: 'ana',
    state: 'succeeded',
    submitted_at: now - 5 * minute,
    ended_at: now - 4 * minute,
    statement_count: 1,
    statements: [],
    queue_position: null,
    resumed: 0,
    failure: null,
    ...some,
  });
  const statement = (some: Partial<Application['statements'][number]>) => ({
    application: '',
    statement: 1,
    sql: 'SELECT 1',
    state: 'succeeded' as const,
    started_at: now - 5 * minute,
    ended_at: now - 4 * minute,
    elapsed_micros: 61_200_000,
    attempts: 1,
    jobs: [],
    rows: 10,
    table: '',
    version: 0,
    files: 0,
    already_committed: false,
    message: '',
    retries: [],
    ...some,
  });
  const applications: Application[] = [
    application({
      id: '0199-0007-nightly',
      name: 'nightly facts',
      state: 'running',
      source: 'transform/facts.sql',
      submitted_at: now - 3 * minute,
      ended_at: 0,
      statement_count: 4,
      statements: [
        statement({
          sql: 'CREATE TABLE dim_users AS\nSELECT DISTINCT "userId", level FROM listen_events',
          rows: 1_204_883,
          table: 'default.dim_users',
          version: 4,
          files: 12,
        }),
        statement({
          statement: 2,
          state: 'running',
          ended_at: 0,
          elapsed_micros: 0,
          rows: 0,
          attempts: 2,
          jobs: ['0199-0007-job-1', '0199-0007-job-2'],
          retries: ['worker worker-3 was lost: no heartbeat for 5 s'],
          sql: 'INSERT INTO fact_streams\nSELECT s.song_id, u."userId", count(*) AS plays\nFROM listen_events AS l JOIN dim_songs AS s ON s.title = l.song\nGROUP BY 1, 2',
        }),
      ],
    }),
    application({
      id: '0199-0006-waiting',
      name: HOSTILE,
      state: 'waiting',
      submitted_by: HOSTILE,
      submitted_at: now - 2 * minute,
      ended_at: 0,
      queue_position: 3,
    }),
    application({
      id: '0199-0005-failed',
      name: `broken ${HOSTILE}`,
      state: 'failed',
      source: HOSTILE,
      statements: [
        statement({
          state: 'failed',
          sql: `SELECT userid,\n       '${HOSTILE}'\nFROM listen_events`,
          rows: 0,
        }),
      ],
      failure: {
        kind: 'user',
        message: `no column userid in listen_events ${HOSTILE}`,
        hint: 'there is "userId": names are folded to lower case unless quoted',
        line: 1,
        column: 8,
      },
    }),
    ...Array.from({ length: 12 }, (_, index) =>
      application({
        id: `0199-0004-${String(99 - index)}`,
        name: index % 3 === 0 ? 'dim_datetime' : `report ${index}`,
        state: index === 5 ? 'cancelled' : 'succeeded',
        submitted_at: now - (60 + index) * minute,
        ended_at: now - (59 + index) * minute,
        statement_count: 3,
        statements: [1, 2, 3].map((number) => statement({ statement: number })),
      }),
    ),
  ];
  const task = (job: string, stage: number, number: number, some: Partial<Metrics>, state = 'running') => ({
    job,
    stage,
    task: number,
    attempt: 2,
    worker: `worker-${(number % 2) + 1}`,
    state: state as 'running',
    started_at: now - minute,
    ended_at: state === 'running' ? 0 : now - minute / 2,
    metrics: metrics(some),
  });
  const scan = (share: number): Partial<Metrics> => ({
    rows_read: Math.round(48_000_000 * share),
    bytes_read: Math.round(9e9 * share),
    rows_out: Math.round(2_400_000 * share),
    rows_exchanged: Math.round(2_400_000 * share),
    bytes_exchanged: Math.round(3e8 * share),
    memory_peak_bytes: 3 * 2 ** 30,
    spilled_bytes: share > 0.3 ? 5 * 2 ** 30 : 0,
    elapsed_micros: Math.round(58e6 * share),
    operators: [
      { name: 'RepartitionExec', depth: 0, rows_out: Math.round(2.4e6 * share), compute_micros: 210_000, spilled_bytes: 0, memory_peak_bytes: 0 },
      { name: 'AggregateExec', depth: 1, rows_out: Math.round(2.4e6 * share), compute_micros: Math.round(31e6 * share), spilled_bytes: share > 0.3 ? 5 * 2 ** 30 : 0, memory_peak_bytes: 3 * 2 ** 30 },
      { name: 'DataSourceExec', depth: 2, rows_out: Math.round(48e6 * share), compute_micros: Math.round(12e6 * share), spilled_bytes: 0, memory_peak_bytes: 0 },
    ],
  });
  const job = (id: string, some: Partial<Job>): Job => ({
    id,
    application: '0199-0007-nightly',
    statement: 2,
    attempt: 1,
    state: 'failed',
    started_at: now - 2 * minute,
    ended_at: now - minute,
    elapsed_micros: 60_000_000,
    reason: 'worker worker-3 was lost: no heartbeat for 5 s',
    stages: [],
    metrics: metrics({}),
    plan: '',
    ...some,
  });
  const running = '0199-0007-job-2';
  const jobs: Job[] = [
    job('0199-0007-job-1', {
      stages: [{ job: '0199-0007-job-1', stage: 1, state: 'failed', partitions: 2, tasks: [task('0199-0007-job-1', 1, 0, {}, 'failed')] }],
    }),
    job(running, {
      attempt: 2,
      state: 'running',
      ended_at: 0,
      elapsed_micros: 0,
      reason: '',
      plan: 'SortPreservingMergeExec: [plays DESC]\n  NetworkCoalesceExec: stage=2\n    AggregateExec: mode=FinalPartitioned, gby=[song_id, userId]\n      NetworkShuffleExec: stage=1\n        DataSourceExec: file_groups={16 groups}',
      stages: [
        { job: running, stage: 1, state: 'running', partitions: 16, tasks: [
          task(running, 1, 0, scan(0.12), 'succeeded'),
          task(running, 1, 1, scan(0.14), 'succeeded'),
          task(running, 1, 2, scan(0.62)),
          task(running, 1, 3, scan(0.13), 'succeeded'),
        ] },
        { job: running, stage: 2, state: 'waiting', partitions: 16, tasks: [
          { ...task(running, 2, 0, {}), state: 'waiting', started_at: 0 },
          { ...task(running, 2, 1, {}), state: 'waiting', started_at: 0 },
        ] },
      ],
    }),
  ];
  const streams: Stream[] = [
    {
      name: 'beatlytica',
      state: 'running',
      reason: '',
      since: now - 190 * minute,
      commits: 287,
      rows: 18_442_019,
      last_commit_at: now - 48_000,
      lag: 14_210,
      topics: ['listen_events', 'page_view_events'],
      partitions: ['listen_events', 'page_view_events'].flatMap((topic) =>
        [0, 1, 2].map((partition) => ({
          topic,
          partition,
          worker: `worker-${(partition % 2) + 1}`,
          epoch: 3,
          committed: 3_000_000 + partition * 1000,
          end: 3_000_000 + partition * 1000 + (topic === 'listen_events' ? 4000 + partition * 700 : 10),
        })),
      ),
      tables: [
        { table: 'default.listen_events', kind: 'rows', rows: 15_100_221, commits: 144, last_commit_at: now - 48_000, version: 144 },
        { table: 'default.listen_events_dead', kind: 'dead letters', rows: 17, commits: 2, last_commit_at: now - 90 * minute, version: 2 },
      ],
    },
    {
      name: HOSTILE,
      state: 'failing',
      reason: `broker 10.1.2.3:9092: connection refused ${HOSTILE}`,
      since: now - 14 * minute,
      commits: 0,
      rows: 0,
      last_commit_at: 0,
      lag: null,
      partitions: [],
      tables: [],
    },
  ];
  return {
    cluster: {
      cluster_id: '0199aa00-1111-7222-8333-444455556666',
      build: '0.1.0 (3f5cd0d)',
      lake: 'gs://beatlytica-lake/prod',
      started_at: now - 200 * minute,
      now,
      workers: 3,
      cores: 48,
      running_tasks: 20,
      running_applications: 1,
      waiting_applications: 1,
      running_jobs: 1,
    },
    workers: [
      worker({}),
      worker({ id: 'worker-2', running_tasks: 8, memory_used_bytes: 60 * 2 ** 30, url: 'http://10.0.0.3:41234' }),
      worker({ id: 'worker-3', state: 'lost', reason: 'no heartbeat for 5 s', left_at: now - 90_000, running_tasks: 0, url: 'http://10.0.0.4:41234' }),
      worker({ id: 'worker-4', state: 'set_aside', reason: '4 tasks failed in a row: No space left on device', running_tasks: 0, url: 'http://10.0.0.5:41234' }),
    ],
    applications,
    jobs,
    streams,
  };
}
