// What somebody should look at, the worst first. Pure: the first screen is made of this.

import { count, running, short } from './format';
import type { Model } from './model';
import { isMember, type Cluster, type Stream } from './records';
import { link } from './route';

export interface Matter {
  level: 'bad' | 'warn';
  /** What it is about, shown as a link. */
  name: string;
  href: string;
  what: string;
  /** The reason or the next step; may be empty. */
  why: string;
  /** The newest first within a level. */
  at: number;
  /** Whether `at` is when it happened, and worth saying. */
  isDated: boolean;
}

const HOUR = 3_600_000;
/** A lost worker and a failed application are news for so long. */
const RECENT = HOUR;
/** A stream that has records to read and has committed none for so long. */
const NO_COMMIT = 10 * 60_000;
const LONG_WAIT = 60_000;
/** Workers lose a master that restarts, and join again by then. */
const REJOIN = 15_000;

export function matters(model: Model, cluster: Cluster | null, now: number): Matter[] {
  const found: Matter[] = [];
  const workers = [...model.workers.values()];
  const members = workers.filter((worker) => isMember(worker.state));
  const isFresh = cluster !== null && now - cluster.started_at < REJOIN;
  if (cluster !== null && members.length === 0 && !isFresh) {
    found.push({
      level: 'bad',
      name: 'No workers',
      href: '#/workers',
      what: 'small questions run on the master; nothing else can',
      why: 'start one with `drumline worker --master …`',
      at: now,
      isDated: false,
    });
  }
  for (const stream of model.streams.values()) {
    const href = link('streams', stream.name);
    if (stream.state === 'failing') {
      const what = `stream failing${lasting(stream.since, now)}`;
      found.push({ ...about(stream), level: 'bad', href, what });
    } else if (stream.state === 'waiting') {
      const what = `stream waiting${lasting(stream.since, now)}`;
      found.push({ ...about(stream), level: 'warn', href, what });
    } else if (stream.state === 'running' && (stream.lag ?? 0) > 0) {
      const quiet = now - Math.max(stream.last_commit_at, stream.since);
      if (quiet > NO_COMMIT) {
        const what = `stream: no commit for ${running(quiet)} with ${short(stream.lag ?? 0)} records to read`;
        found.push({ ...about(stream), level: 'warn', href, what });
      }
    }
  }
  for (const worker of workers) {
    const href = link('workers', worker.id);
    if (isFresh && worker.left_at === cluster.started_at) continue;
    if (worker.state === 'lost' && now - worker.left_at < RECENT && !isBack(worker.id, model)) {
      const at = worker.left_at;
      found.push({ level: 'bad', name: worker.id, href, what: 'worker lost', why: worker.reason, at, isDated: true });
    } else if (worker.state === 'set_aside') {
      const why = worker.reason;
      found.push({ level: 'warn', name: worker.id, href, what: 'worker set aside', why, at: now, isDated: false });
    } else if (isMember(worker.state) && worker.memory_bytes > 0) {
      const share = worker.memory_used_bytes / worker.memory_bytes;
      if (share > 0.9) {
        const what = `worker uses ${Math.round(share * 100)} % of its memory`;
        found.push({ level: 'warn', name: worker.id, href, what, why: '', at: now, isDated: false });
      }
    }
  }
  for (const application of model.applications.values()) {
    const href = link('applications', application.id);
    const name = application.name;
    if (application.state === 'failed' && now - application.ended_at < RECENT) {
      const why = application.failure?.message ?? '';
      const at = application.ended_at;
      found.push({ level: 'bad', name, href, what: 'application failed', why, at, isDated: true });
    } else if (application.state === 'waiting' && now - application.submitted_at > LONG_WAIT) {
      const place = application.queue_position;
      const what = `application waiting for ${running(now - application.submitted_at)}`;
      const why = place === null ? '' : `place ${count(place)} in line`;
      const at = application.submitted_at;
      found.push({ level: 'warn', name, href, what, why, at, isDated: false });
    }
  }
  return found.sort((a, b) => rank(a) - rank(b) || b.at - a.at);
}

function about(stream: Stream) {
  return { name: stream.name, why: stream.reason, at: stream.since, isDated: false };
}

/** Since when is not known of a stream that a restarted master has not heard of yet. */
function lasting(since: number, now: number): string {
  return since > 0 ? ` for ${running(now - since)}` : '';
}

/** A restarted worker comes back under another id, at the same address where that is fixed. */
function isBack(id: string, model: Model): boolean {
  const known = model.workers.get(id);
  return [...model.workers.values()].some(
    (other) => other.url === known?.url && isMember(other.state),
  );
}

function rank(matter: Matter): number {
  return matter.level === 'bad' ? 0 : 1;
}
