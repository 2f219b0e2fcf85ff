// The one runner: reads lists, listens to facts, finds the master again. Views read `live` and change nothing.
//
// Facts are listened to before lists are read, and applied on top of them, so that nothing falls between
// (model.ts makes repeats harmless). Whatever breaks ends in the same place: close, wait, read all again.

import { ApiError, eventsUrl, get, list, path, post, remove } from './api';
import { step, type Happening, type Phase } from './connection';
import type { Fact } from './facts';
import {
  applyAll,
  EMPTY,
  fromLists,
  isUnknown,
  touchesStreams,
  withApplication,
  withJobs,
  withStreams,
  type Model,
} from './model';
import type { Application, Cluster, Job, Session, Stream, Worker } from './records';

/** Changes are shown this often at most. */
const SHOW_EVERY = 200;
/** How often the master is asked whether it is there: a frozen one keeps its connections. */
const ASK_EVERY = 4_000;
const STREAMS_EVERY = 3_000;
/** How soon after a fact about it a list is read again. */
const SOON = 400;
const OPEN_WITHIN = 6_000;
const LAGGED_WAIT = 1_000;
/** How long a page is hidden before it listens no more, and how often it looks from then on. */
const SLEEP_AFTER = 10_000;
const ASLEEP_EVERY = 30_000;

class Live {
  model = $state.raw<Model>(EMPTY);
  cluster = $state.raw<Cluster | null>(null);
  session = $state.raw<Session | null>(null);
  phase = $state.raw<Phase>({ name: 'starting' });
  /** Grows when all was read anew: views read what they hold beyond the lists again. */
  epoch = $state(0);
  /** The master's clock, by the second. */
  now = $state(Date.now());
  /** Set while the master that answers is another process than the one before. */
  restartedAt = $state(0);

  #ahead = 0;
  #source: EventSource | null = null;
  #heard: Fact[] = [];
  #isShown = false;
  #unknown = new Set<string>();
  #timers = new Map<string, ReturnType<typeof setTimeout>>();
  /** Answers to questions of before are not wanted any more. */
  #round = 0;

  start(): void {
    setInterval(() => {
      this.now = Date.now() + this.#ahead;
    }, 1_000);
    document.addEventListener('visibilitychange', () => this.#looked());
    window.addEventListener('online', () => this.retryNow());
    void this.#connect();
  }

  retryNow(): void {
    if (this.phase.name === 'lost') void this.#connect();
  }

  async signIn(token: string): Promise<void> {
    await post('session', { token });
    await this.#connect();
  }

  async signOut(): Promise<void> {
    this.#close();
    await remove('session').catch(() => undefined);
    this.model = EMPTY;
    this.session = null;
    this.phase = { name: 'signed_out', message: '' };
  }

  /** Reads one application, and its jobs, whole. */
  async readApplication(id: string): Promise<void> {
    const [application, jobs] = await Promise.all([
      get<Application>(path('applications', id)),
      list<Job>(`jobs?application=${encodeURIComponent(id)}`),
    ]);
    this.model = withJobs(withApplication(this.model, application), jobs);
  }

  async readJob(id: string): Promise<void> {
    const job = await get<Job>(path('jobs', id));
    this.model = withJobs(this.model, [job]);
    if (!this.model.applications.has(job.application)) {
      const application = await get<Application>(path('applications', job.application));
      this.model = withApplication(this.model, application);
    }
  }

  /** Runs an action, then reads what it changed. */
  async act(where: string): Promise<void> {
    await post(where);
    this.#soon('streams', SOON, () => this.#readStreams());
  }

  get mayAct(): boolean {
    return this.session !== null && this.session.role !== 'read';
  }

  get isAdmin(): boolean {
    return this.session?.role === 'admin';
  }

  /** A page that nobody looks at gives its connection back: browsers open six to one origin, for all tabs. */
  #looked(): void {
    if (document.visibilityState === 'hidden') {
      this.#soon('sleep', SLEEP_AFTER, () => this.#connect());
      return;
    }
    clearTimeout(this.#timers.get('sleep'));
    this.#timers.delete('sleep');
    if (this.phase.name !== 'signed_out' && this.#source === null) void this.#connect();
  }

  async #connect(): Promise<void> {
    this.#close();
    const round = this.#round;
    try {
      const session = await get<Session>('session');
      if (round !== this.#round) return;
      if (!session.role) throw new ApiError('unauthorized', '');
      const isSeen = document.visibilityState === 'visible';
      if (isSeen) await this.#listen(round);
      await this.#readAll(round, session);
      if (!isSeen && round === this.#round) this.#soon('look', ASLEEP_EVERY, () => this.#connect());
    } catch (error) {
      if (round === this.#round) this.#failed(error);
    }
  }

  /** Resolves when facts arrive. */
  #listen(round: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const gone = () => reject(new ApiError('unreachable', 'the master tells no events'));
      const source = new EventSource(eventsUrl());
      this.#source = source;
      const timer = setTimeout(gone, OPEN_WITHIN);
      source.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      source.onerror = () => {
        clearTimeout(timer);
        gone();
        if (round === this.#round) this.#failed(new ApiError('unreachable', ''));
      };
      source.addEventListener('fact', (event) => {
        if (round === this.#round) this.#hear(event.data as string);
      });
      source.addEventListener('lagged', () => {
        // Not at once: a page that is too slow for its cluster would do nothing but read lists.
        if (round === this.#round) this.#soon('connect', LAGGED_WAIT, () => this.#connect());
      });
    });
  }

  async #readAll(round: number, session: Session): Promise<void> {
    const [cluster, workers, applications, jobs, streams] = await Promise.all([
      get<Cluster>('cluster'),
      list<Worker>('workers?limit=1000'),
      list<Application>('applications?limit=200'),
      list<Job>('jobs?state=running&limit=200'),
      list<Stream>('streams?limit=1000'),
    ]);
    if (round !== this.#round) return;
    this.#tell(cluster);
    this.session = session;
    this.model = fromLists({ workers, applications, jobs, streams });
    this.#isShown = true;
    this.#show();
    this.#step({ name: 'read' });
    this.epoch += 1;
    if (this.#source === null) return;
    this.#soon('ask', ASK_EVERY, () => this.#ask());
    this.#soon('streams', STREAMS_EVERY, () => this.#readStreams());
  }

  #hear(text: string): void {
    let fact: Fact;
    try {
      fact = JSON.parse(text) as Fact;
    } catch {
      return;
    }
    this.#heard.push(fact);
    this.#soon('show', SHOW_EVERY, () => this.#show());
    if (touchesStreams(fact)) this.#sooner('streams', SOON, () => this.#readStreams());
  }

  /** Applies what was heard, once there is something to apply it to. */
  #show(): void {
    if (!this.#isShown || this.#heard.length === 0) return;
    const facts = this.#heard;
    this.#heard = [];
    const next = applyAll(this.model, facts);
    for (const fact of facts) {
      const id = isUnknown(next, fact);
      if (id !== null) this.#unknown.add(id);
    }
    this.model = next;
    if (this.#unknown.size > 0) this.#soon('unknown', SOON, () => this.#readUnknown());
  }

  async #readUnknown(): Promise<void> {
    const ids = [...this.#unknown].slice(0, 20);
    this.#unknown.clear();
    const round = this.#round;
    for (const id of ids) {
      try {
        const application = await get<Application>(path('applications', id));
        if (round !== this.#round) return;
        this.model = withApplication(this.model, application);
      } catch {
        // Forgotten by now; the heartbeat notices anything worse.
      }
    }
  }

  async #ask(): Promise<void> {
    const round = this.#round;
    try {
      const cluster = await get<Cluster>('cluster');
      if (round !== this.#round) return;
      this.#tell(cluster);
      this.#soon('ask', ASK_EVERY, () => this.#ask());
    } catch (error) {
      if (round === this.#round) this.#failed(error);
    }
  }

  async #readStreams(): Promise<void> {
    const round = this.#round;
    try {
      const streams = await list<Stream>('streams?limit=1000');
      if (round !== this.#round) return;
      this.model = withStreams(this.model, streams);
    } catch {
      // The heartbeat notices.
    }
    if (round === this.#round) this.#soon('streams', STREAMS_EVERY, () => this.#readStreams());
  }

  #tell(cluster: Cluster): void {
    const before = this.cluster;
    if (before !== null && before.started_at !== cluster.started_at) {
      this.restartedAt = cluster.started_at;
    }
    this.cluster = cluster;
    this.#ahead = cluster.now - Date.now();
    this.now = cluster.now;
  }

  #failed(error: unknown): void {
    this.#close();
    const fault = error instanceof ApiError ? error.fault : 'unreachable';
    // Forbidden to look: a worker's token, say.
    if (fault === 'unauthorized' || fault === 'forbidden') {
      this.model = EMPTY;
      this.session = null;
      this.#step({ name: 'unauthorized', message: (error as ApiError).message });
      return;
    }
    this.#step({ name: 'unreachable' });
    if (this.phase.name !== 'lost') return;
    const wait = this.phase.retryAt - Date.now();
    this.#soon('connect', Math.max(0, wait), () => this.#connect());
  }

  #step(what: Happening): void {
    this.phase = step(this.phase, Date.now(), what, Math.random());
  }

  #close(): void {
    this.#round += 1;
    this.#source?.close();
    this.#source = null;
    this.#heard = [];
    this.#isShown = false;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  /** Once, under this name; a timer that runs already stays. */
  #soon(name: string, wait: number, what: () => void | Promise<void>): void {
    if (this.#timers.has(name)) return;
    const timer = setTimeout(() => {
      this.#timers.delete(name);
      void what();
    }, wait);
    this.#timers.set(name, timer);
  }

  #sooner(name: string, wait: number, what: () => void | Promise<void>): void {
    if (this.#timers.has(`${name} sooner`)) return;
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
    this.#soon(`${name} sooner`, wait, what);
  }
}

export const live = new Live();
