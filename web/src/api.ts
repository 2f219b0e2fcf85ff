// Calls to `/api/v1` of the master that served this page, and to nobody else.

// Relative, so that the page works below any path that a proxy puts it at.
const BASE = 'api/v1/';
/** A master that does not answer a small question by then is not there. */
const TIMEOUT = 5_000;
/** An action may wait for what it asks for. */
const ACTION_TIMEOUT = 20_000;

export type Fault = 'unreachable' | 'unauthorized' | 'forbidden' | 'missing' | 'refused';

/** A call that failed, with what to tell people. */
export class ApiError extends Error {
  constructor(
    readonly fault: Fault,
    message: string,
    readonly hint = '',
  ) {
    super(message);
  }
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

export function get<T>(path: string): Promise<T> {
  return call<T>('GET', path);
}

/** The newest records of a list. */
export async function list<T>(path: string): Promise<T[]> {
  return (await get<Page<T>>(path)).items;
}

export function post(path: string, body?: unknown): Promise<unknown> {
  return call('POST', path, body);
}

export function remove(path: string): Promise<unknown> {
  return call('DELETE', path);
}

/** A path's segments, each safe whatever it holds. */
export function path(...segments: string[]): string {
  return segments.map(encodeURIComponent).join('/');
}

export function eventsUrl(): string {
  return `${BASE}events`;
}

async function call<T>(method: string, where: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: 'application/json' };
  // Only our own page can send this: it is what keeps other sites from acting with our cookie.
  if (method !== 'GET') headers['X-Drumline'] = '1';
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response: Response;
  let text: string;
  try {
    response = await fetch(BASE + where, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: AbortSignal.timeout(method === 'GET' ? TIMEOUT : ACTION_TIMEOUT),
    });
    text = await response.text();
  } catch {
    throw new ApiError('unreachable', 'the master does not answer');
  }
  const json = parse(text);
  if (response.ok) return json as T;
  const said = (json as { error?: { message?: string; hint?: string } } | undefined)?.error;
  const message = said?.message ?? `the master answers with status ${response.status}`;
  throw new ApiError(faultOf(response.status), message, said?.hint ?? '');
}

function parse(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function faultOf(status: number): Fault {
  if (status === 401) return 'unauthorized';
  if (status === 403) return 'forbidden';
  if (status === 404) return 'missing';
  // A proxy in front of a master that is down.
  if (status === 502 || status === 503 || status === 504) return 'unreachable';
  return 'refused';
}
