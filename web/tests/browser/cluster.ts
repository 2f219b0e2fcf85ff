// A cluster of real processes, and a real Kafka, all in one folder that goes when it is stopped.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, Socket, type AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const BINARY = process.env.DRUMLINE_BIN ?? join(ROOT, 'target/debug/drumline');
const KAFKA = readFileSync(join(ROOT, 'testkit/kafka.version'), 'utf8').trim();
const READY_WITHIN = 60_000;

export interface Ended {
  code: number;
  said: string;
}

export class Cluster {
  readonly folder = mkdtempSync(join(tmpdir(), 'drumline-page-cluster-'));
  readonly url: string;
  brokers = '';
  #processes = new Map<string, ChildProcess>();

  private constructor(readonly port: number) {
    this.url = `http://127.0.0.1:${port}`;
  }

  /** A master and two workers that have joined, and a broker. */
  static async start(): Promise<Cluster> {
    if (!existsSync(BINARY)) {
      throw new Error(`${BINARY} is not there: \`cargo build -p drumline-cli\`, or set DRUMLINE_BIN`);
    }
    const cluster = new Cluster(await freePort());
    try {
      await Promise.all([cluster.#kafka(), cluster.startMaster()]);
      for (const worker of ['worker-1', 'worker-2']) {
        cluster.#spawn(worker, BINARY, [
          'worker',
          `--id=${worker}`,
          `--master=${cluster.url}`,
          '--listen=127.0.0.1:0',
          '--cores=1',
          `--work-dir=${join(cluster.folder, worker)}`,
        ]);
      }
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  async startMaster(): Promise<void> {
    this.#spawn('master', BINARY, [
      'master',
      `--listen=127.0.0.1:${this.port}`,
      `--lake=${join(this.folder, 'lake')}`,
      `--state-dir=${join(this.folder, 'state')}`,
    ]);
    await until('the master answers', async () => (await fetch(`${this.url}/healthz`)).ok);
  }

  /** SIGSTOP or SIGCONT. */
  signalMaster(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#processes.get('master')?.kill(signal);
  }

  /** SIGKILL, and its end. */
  async killMaster(): Promise<void> {
    const master = this.#processes.get('master');
    if (master === undefined) throw new Error('no master runs');
    this.#processes.delete('master');
    await kill(master);
  }

  /** The token that a master keeps for its own user. */
  token(): string {
    return readFileSync(join(this.folder, 'state/token'), 'utf8').trim();
  }

  /** Runs `drumline` to its end. */
  run(...words: string[]): Promise<Ended> {
    return new Promise((resolve) => {
      execFile(BINARY, words, { env: this.#environment(), timeout: 120_000 }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code ?? 1), said: stdout + stderr });
      });
    });
  }

  /** Runs `drumline` beside the test, until the cluster stops. */
  runBeside(name: string, ...words: string[]): void {
    this.#spawn(name, BINARY, words);
  }

  file(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#processes.values()].map(kill));
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  /** The log's end, for a failed test. */
  log(name: string): string {
    return readFileSync(join(this.folder, `${name}.log`), 'utf8').split('\n').slice(-30).join('\n');
  }

  #environment(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      DRUMLINE_MASTER: this.url,
      // Tokens of this machine's other clusters are none of ours.
      XDG_STATE_HOME: join(this.folder, 'user'),
    };
  }

  #spawn(name: string, program: string, words: string[]): void {
    const log = openSync(join(this.folder, `${name}.log`), 'a');
    const child = spawn(program, words, { env: this.#environment(), stdio: ['ignore', log, log] });
    this.#processes.set(name, child);
  }

  async #kafka(): Promise<void> {
    const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
    const jars = join(cache, `drumline/kafka-${KAFKA}`);
    if (!existsSync(jars)) throw new Error(`${jars} is not there: \`cargo xtask setup\` brings it`);
    const [port, controller] = [await freePort(), await freePort()];
    const listeners = `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller}`;
    const properties = this.file(
      'server.properties',
      [
        'process.roles=broker,controller',
        'node.id=1',
        `controller.quorum.bootstrap.servers=127.0.0.1:${controller}`,
        `listeners=${listeners}`,
        `advertised.listeners=${listeners}`,
        'controller.listener.names=CONTROLLER',
        'listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
        `log.dirs=${join(this.folder, 'kafka')}`,
        // The events are of 2018: a broker would drop them half a minute after its start.
        'log.retention.ms=-1',
        'offsets.topic.num.partitions=1',
        'offsets.topic.replication.factor=1',
        '',
      ].join('\n'),
    );
    mkdirSync(join(this.folder, 'kafka'));
    const java = (heap: string, main: string) => [heap, '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', `${jars}/*`, main];
    const id = randomBytes(16).toString('base64url');
    await new Promise<void>((resolve, reject) => {
      // With `=`: one id of 64 begins with a dash, and would be read as the next option.
      const tool = java('-Xmx64m', 'kafka.tools.StorageTool');
      const words = [...tool, 'format', '--standalone', `--cluster-id=${id}`, `--config=${properties}`];
      execFile('java', words, (error, _, said) => (error === null ? resolve() : reject(new Error(said))));
    });
    this.#spawn('kafka', 'java', [...java('-Xmx384m', 'kafka.Kafka'), properties]);
    await until('Kafka listens', () => canConnect(port));
    this.brokers = `127.0.0.1:${port}`;
  }
}

/** Asks until it is so; a failed question counts as no. */
export async function until(what: string, isSo: () => Promise<boolean>, within = READY_WITHIN): Promise<void> {
  const deadline = Date.now() + within;
  for (;;) {
    if (await isSo().catch(() => false)) return;
    if (Date.now() > deadline) throw new Error(`not within ${within / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function kill(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = new Socket();
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.connect(port, '127.0.0.1');
  });
}
